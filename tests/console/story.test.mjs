// What a run's events are put together to: `node --test`, run by test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Story } from "../../portico/console/static/story.js";

const told = (...events) => {
  const story = new Story();
  events.forEach(([type, data], at) => story.add({ seq: at + 1, type, at: `2026-01-01T00:00:0${at % 10}Z`, data }));
  return story;
};

test("pieces of a text are one text, also with progress between them", () => {
  const { items, progress } = told(["delta", { text: "a" }], ["progress", { done: 1, total: 2 }], ["delta", { text: "b" }], ["progress", { done: 2, total: 2 }], ["log", { data: "x" }], ["delta", { text: "c" }]);
  assert.deepEqual(items.map((item) => item.kind), ["text", "progress", "log", "text"]);
  assert.equal(items[0].text, "ab");
  assert.deepEqual(progress, { done: 2, total: 2 });
});

test("a tool's result stands with its call", () => {
  const { items } = told(["tool.call", { id: "1", name: "a" }], ["tool.call", { id: "2", name: "b" }], ["tool.result", { id: "1", result: 3 }], ["tool.result", { id: "2", error: "no" }]);
  assert.deepEqual(items.map(({ title, state, result, error }) => [title, state, result, error]), [["a", "done", 3, undefined], ["b", "failed", undefined, "no"]]);
});

test("a step that is tried again is one step", () => {
  const { items } = told(["step.started", { name: "pay", key: "k" }], ["step.retrying", { name: "pay", key: "k", error: "x", attempt: 1 }], ["step.started", { name: "pay", key: "k" }], ["step.completed", { name: "pay", key: "k" }]);
  assert.equal(items.length, 1);
  assert.equal(items[0].state, "done");
  assert.equal(items[0].tries, 2);
});

test("what was before the handling began again counts no more", () => {
  const { items, restarts } = told(["delta", { text: "a" }], ["run.restarted", { attempt: 2 }], ["delta", { text: "b" }]);
  assert.deepEqual(items.map((item) => Boolean(item.past)), [true, false, false]);
  assert.equal(restarts, 1);
});

test("an event that comes twice is told once", () => {
  const story = told(["delta", { text: "a" }]);
  assert.equal(story.add({ seq: 1, type: "delta", data: { text: "a" } }), false);
  assert.equal(story.items[0].text, "a");
});

test("a long story is bounded", () => {
  const story = new Story();
  for (let seq = 1; seq <= 20_000; seq += 1) story.add({ seq, type: "mood", data: {} });
  assert.ok(story.items.length <= 5000);
  assert.equal(story.items.length + story.dropped, 20_000);
  assert.equal(story.last, 20_000);
});

test("events with data of any kind are taken", () => {
  const kinds = ["delta", "progress", "log", "tool.call", "tool.result", "tool.sampled", "step.started", "step.completed", "step.other", "run.waiting", "assistant.message", "constructor", "__proto__", ""];
  for (const data of [null, 3, "text", [], [1], { name: null }, { error: {} }]) assert.equal(told(...kinds.map((kind) => [kind, data])).last, kinds.length);
});
