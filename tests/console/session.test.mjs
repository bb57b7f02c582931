// What is left of a key that is used no more: `node --test`, run by test_modules.py.
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { Api } from "../../portico/console/static/api.js";
import { Figures } from "../../portico/console/static/figures.js";
import { News } from "../../portico/console/static/news.js";
import { Session } from "../../portico/console/static/session.js";
import { WaitingList } from "../../portico/console/static/waiting_list.js";

const answer = (status, body = {}) => new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
const stream = () => {
  const handlers = {};
  return { on: (kind, handler) => (handlers[kind] = handler), tell: (kind, data) => handlers[kind.split(".")[0]](data, kind) };
};

test("a refusal of the key before does not throw out whoever has signed in meanwhile", async () => {
  const session = new Session();
  const api = new Api("http://gateway.example/", session);
  let late;
  globalThis.fetch = () => new Promise((resolve) => (late = resolve));
  session.signIn("old");
  const asked = api.get("agents");
  session.signIn("new");
  late(answer(401));
  await assert.rejects(asked);
  assert.deepEqual([session.state, session.headers], ["open", { Authorization: "Bearer new" }]);

  globalThis.fetch = async () => answer(401);
  await assert.rejects(api.get("agents"));
  assert.deepEqual([session.state, session.headers], ["asked", {}]);
});

test("a request that is over leaves nothing at the signal that could have ended it, and a stream stays abortable", async () => {
  const api = new Api("http://gateway.example/", new Session());
  const control = new AbortController();
  let status = 200;
  let sent;
  globalThis.fetch = async (url, { signal }) => ((sent = signal), answer(status));
  await api.get("agents", { signal: control.signal });
  await api.post("runs", {}, { signal: control.signal });
  status = 503;
  await assert.rejects(api.get("agents", { signal: control.signal }));
  assert.equal(getEventListeners(control.signal, "abort").length, 0);

  status = 200;
  await api.request("GET", "events", { signal: control.signal });
  control.abort();
  assert.equal(sent.aborted, true);
});

test("no path leads away from the gateway", () => {
  const api = new Api("http://gateway.example/under/", new Session());
  const hrefs = ["http://evil.example/x", "//evil.example/x", "javascript:alert(1)", "/agents/echo"].map((one) => api.url(one));
  assert.deepEqual(hrefs.filter((one) => !one.startsWith("http://gateway.example/under/")), []);
});

test("news and figures are forgotten with the key that let somebody see them", () => {
  const told = stream();
  const news = new News(told, { say: () => {} });
  const figures = new Figures(told);
  told.tell("process.crashed", { at: "2026-01-31T09:30:00Z", name: "echo", error: { type: "E", message: "secret" } });
  told.tell("figures", { at: "2026-01-31T09:30:00Z", calls: { admitted: 7 } });
  assert.equal(news.list.length + figures.times.length, 2);
  news.clear();
  figures.clear();
  assert.deepEqual([news.list, figures.times, figures.columns.admitted, figures.last], [[], [], [], null]);
});

test("what begins or ends to wait while the list is on its way is read after it", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const late = [];
  const told = stream();
  const list = new WaitingList({ get: () => new Promise((resolve) => late.push(resolve)) }, told);
  const waits = (...ids) => ({ runs: ids.map((run_id) => ({ run_id, waiting_for: { kind: "input" } })), next: null });
  list.readSoon();
  context.mock.timers.tick(1000);
  told.tell("run.waiting", { run_id: "second", status: "waiting" });
  late[0](waits("first"));
  await new Promise(setImmediate);
  context.mock.timers.tick(1000);
  assert.equal(late.length, 2);
  told.tell("run.resumed", { run_id: "third", status: "queued" });
  late[1](waits("third", "second", "first"));
  await new Promise(setImmediate);
  assert.deepEqual(list.runs.map((run) => run.run_id), ["first", "second"]);
  context.mock.timers.tick(1000);
  assert.equal(late.length, 3);
  late[2](waits("second", "first"));
  await new Promise(setImmediate);
  context.mock.timers.tick(1000);
  assert.equal(late.length, 3);
});

test("runs that come late for whoever has left are not shown to the next", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  let late;
  const list = new WaitingList({ get: () => new Promise((resolve) => (late = resolve)) }, stream());
  list.readSoon();
  context.mock.timers.tick(1000);
  list.clear();
  late({ runs: [{ run_id: "r", waiting_for: { kind: "input" } }], next: null });
  await new Promise(setImmediate);
  assert.deepEqual([list.runs, list.state], [[], "unread"]);
});
