// The tree between two readings, as the gateway tells and shows it: `node --test`, run by test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Tree } from "../../portico/console/static/tree.js";

const stream = () => {
  const handlers = {};
  const on = (kind, handler) => (handlers[kind] = handler);
  return { state: "live", on, subscribe: () => {}, tell: (kind, data) => handlers[kind.split(".")[0]](data, kind) };
};
const session = { state: "open", learned: () => {} };

test("what the gateway leaves out of a node is over, and what the page knows of it stays", async () => {
  const echo = { name: "echo", kind: "agent", status: "running" };
  const told = stream();
  const tree = new Tree({ get: async () => ({ name: "root", kind: "sup", children: [echo] }) }, told, session);
  await tree.read();
  told.tell("process.crashed", { name: "echo", at: "2026-01-31T09:30:00Z", error: { type: "E", message: "m" } });
  tree.update({ ...echo, status: "suspended", reason: "tired", error: "no server", retry_in: 3 });
  tree.update(echo);
  const { parent, lastCrash, ...rest } = tree.byName.get("echo");
  assert.deepEqual([parent.name, parent.tally.running, lastCrash.type], ["root", 1, "E"]);
  assert.deepEqual(rest, { ...echo, key: "echo", position: 0, siblings: 1, level: 2, tally: null, children: null });
});

test("a greeting and a gap are one reading of the tree", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const told = stream();
  let read = 0;
  new Tree({ get: async () => (read++, { name: "root", kind: "sup", children: [] }) }, told, session);
  told.tell("hello", {});
  told.tell("gap", {});
  context.mock.timers.tick(1);
  await new Promise(setImmediate);
  context.mock.timers.tick(60_000);
  assert.equal(read, 1);
});

test("a stream that goes on where it ended has missed nothing of the tree", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const told = stream();
  let read = 0;
  new Tree({ get: async () => (read++, { name: "root", kind: "sup", children: [] }) }, told, session);
  told.resumed = true;
  told.tell("hello", {});
  context.mock.timers.tick(60_000);
  await new Promise(setImmediate);
  assert.equal(read, 0);
  told.tell("gap", {});
  context.mock.timers.tick(1);
  await new Promise(setImmediate);
  assert.equal(read, 1);
});
