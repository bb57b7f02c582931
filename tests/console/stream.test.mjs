// The stream of events over connections that end: `node --test`, run by test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../portico/console/static/problem.js";
import { RunList } from "../../portico/console/static/run_list.js";
import { Stream } from "../../portico/console/static/stream.js";

globalThis.document = { hidden: false, addEventListener: () => {} };
globalThis.addEventListener = () => {};

const event = (id, kind, data) => `id: ${id}\nevent: ${kind}\ndata: ${JSON.stringify(data)}\n\n`;

/** A gateway that answers each connection with the next of these texts, and ends none. */
const answering = (...texts) => {
  const asked = [];
  const request = async (method, path, { headers }) => {
    asked.push(headers);
    const text = texts.shift();
    return new Response(new ReadableStream({ start: (control) => control.enqueue(new TextEncoder().encode(text)) }));
  };
  return { asked, request };
};
const heard = (stream, kind) => new Promise((resolve) => stream.on(kind, resolve));

test("a restart of the gateway is told once: as the gateway tells it", async () => {
  const api = answering(event("a-7", "hello", { life: "a" }), event("b-2", "hello", { life: "b" }) + event("b-2", "gap", { from: null, to: 2 }) + event("b-3", "end", {}));
  const stream = new Stream(api, "events");
  const gaps = [];
  stream.on("gap", (data) => gaps.push(data));
  stream.open();
  await heard(stream, "hello");
  stream.open();
  await heard(stream, "end");
  stream.close();
  assert.deepEqual([api.asked, gaps], [[{}, { "Last-Event-ID": "a-7" }], [{ from: null, to: 2 }]]);
});

test("whoever may not listen looks every ten seconds, until the stream is closed", async (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] });
  const stream = new Stream({ request: async () => Promise.reject(new Problem({ status: 403 })) }, "events");
  const list = new RunList({ get: async () => ({ runs: [{ run_id: "new", agent: "echo", status: "running" }], next: null }) }, stream);
  let looks = 0;
  stream.on("blind", () => looks++);
  stream.open();
  await new Promise(setImmediate);
  assert.deepEqual([stream.state, looks, list.rows.length], ["refused", 0, 0]);
  context.mock.timers.tick(20_000);
  await new Promise((resolve) => setTimeout(resolve, 0));
  await new Promise(setImmediate);
  assert.deepEqual([looks, list.rows.map((run) => run.run_id)], [2, ["new"]]);
  stream.close();
  context.mock.timers.tick(20_000);
  assert.equal(looks, 2);
});

test("whoever begins anew with another gateway has missed something", async () => {
  const api = answering(event("a-7", "hello", { life: "a" }), event("b-2", "hello", { life: "b" }));
  const stream = new Stream(api, "events");
  stream.open();
  await heard(stream, "hello");
  stream.close();
  const gap = heard(stream, "gap");
  stream.open();
  assert.deepEqual(await gap, { from: null, to: null });
  stream.close();
});
