// Story: the events of a run put together to what a person reads: texts joined, tool calls with their results, steps with their ends.
// Plain data; the timeline draws it. It grows by `add` and is bounded: of a long story the beginning is dropped and counted.

const MOST = 5000;
const MOST_TEXT = 256 * 1024;

const MARKS = {
  "run.started": ["begin", "Accepted"],
  "run.restarted": ["again", "Began again"],
  "run.waiting": ["wait", "Waits for an input"],
  "run.resumed": ["resume", "Went on"],
  "run.transferred": ["move", "Handed to another agent"],
  "run.succeeded": ["good", "Succeeded"],
  "run.failed": ["bad", "Failed"],
  "run.cancelled": ["stop", "Cancelled"],
  "run.timed_out": ["bad", "Timed out"],
  checkpoint: ["dot", "Checkpoint"],
  "tool.shadowed": ["warn", "Tool shadowed"],
  "tool.refused": ["warn", "Tool refused"],
  gap: ["warn", "Events are missing"],
};

/** After one of these a run has no further event. */
export const ENDINGS = new Set(["run.succeeded", "run.failed", "run.cancelled", "run.timed_out"]);

/**
 * @typedef {object} Item
 * @property {number} key stays the same while it grows
 * @property {string} kind mark, text, message, tool, model, step, progress, log or event
 * @property {string} at RFC 3339
 * @property {string} type of the (first) event
 * @property {any} data
 * @property {string} tone shape and colour of its sign
 * @property {string} title
 * @property {string} [state] running, done, failed, retrying or skipped
 * @property {string} [until] when it ended
 * @property {boolean} [past] it counts no more: the handling began again
 */

export class Story {
  constructor() {
    /** @type {Item[]} */
    this.items = [];
    this.dropped = 0;
    this.last = 0;
    this.begun = "";
    this.progress = null;
    this.ended = false;
    this.restarts = 0;
    this.cost = { calls: 0, tokens_in: 0, tokens_out: 0, usd: 0, unpriced: 0 };
    this.keys = 0;
    /** What has begun and not ended, by its name. */
    this.open = new Map();
    /** The text and the progress that go on: each may come between pieces of the other. */
    this.flowing = { text: null, progress: null };
  }

  /**
   * One event, in its order; one that was there before is passed over.
   *
   * @param {{seq?: number, type: string, at?: string, data: any}} event
   * @returns {boolean} whether it was new
   */
  add({ seq, type, at = "", data }) {
    if (seq !== undefined) {
      if (seq <= this.last) return false;
      this.last = seq;
    }
    this.begun ||= at;
    const about = data !== null && typeof data === "object" && !Array.isArray(data) ? data : {};
    this.#put(type, at, data, about);
    if (ENDINGS.has(type)) {
      this.ended = true;
      this.open.clear();
    }
    if (this.items.length > MOST) {
      const surplus = this.items.length - MOST + MOST / 10;
      this.items.splice(0, surplus);
      this.dropped += surplus;
    }
    return true;
  }

  #push(kind, type, at, data, more) {
    this.keys += 1;
    const item = { key: this.keys, kind, type, at, data, tone: "dot", title: type, ...more };
    this.items.push(item);
    return item;
  }

  /** The newest item, replaced by another object, so that whoever draws sees that it is another. */
  #renew(item, changes) {
    const next = { ...item, ...changes };
    const at = this.items.lastIndexOf(item);
    if (at >= 0) this.items[at] = next;
    return next;
  }

  #put(type, at, data, about) {
    if (type !== "delta" && type !== "progress") this.flowing = { text: null, progress: null };
    switch (type) {
      case "delta": {
        const text = typeof about.text === "string" ? about.text : JSON.stringify(data);
        const before = this.flowing.text;
        this.flowing.text =
          before && before.text.length < MOST_TEXT
            ? this.#renew(before, { text: before.text + text, pieces: before.pieces + 1, until: at })
            : this.#push("text", type, at, null, { text, pieces: 1, title: "Text" });
        return;
      }
      case "assistant.message":
        this.#push("message", type, at, data, { title: "Message of the model", content: about.content });
        return;
      case "progress":
        this.progress = about;
        this.flowing.progress = this.flowing.progress
          ? this.#renew(this.flowing.progress, { data: about, until: at })
          : this.#push("progress", type, at, about, { title: "Progress" });
        return;
      case "log":
        this.#push("log", type, at, data, { title: String(about.level ?? "log"), tone: toneOf(about.level) });
        return;
      case "tool.call":
        this.#begin(`tool ${about.id ?? about.name}`, "tool", type, at, about, { title: String(about.name ?? "tool") });
        return;
      case "tool.result":
        this.#end(`tool ${about.id ?? about.name}`, "tool", type, at, about, {
          state: about.error === undefined || about.error === null ? "done" : "failed",
          result: about.result,
          error: about.error,
        });
        return;
      case "tool.sampled":
      case "model.call":
        this.#model(type, at, about);
        return;
      default:
        if (type.startsWith("step.")) this.#step(type, at, about);
        else this.#mark(type, at, data, about);
    }
  }

  #mark(type, at, data, about) {
    if (type === "run.restarted") {
      this.restarts += 1;
      this.items = this.items.map((item) => (item.past ? item : { ...item, past: true, state: item.state === "running" ? "broken" : item.state }));
      this.open.clear();
    }
    const [tone, title] = Object.hasOwn(MARKS, type) ? MARKS[type] : [null, type];
    if (tone) this.#push("mark", type, at, data, { tone, title, about });
    else this.#push("event", type, at, data, { about });
  }

  #model(type, at, about) {
    this.cost.calls += 1;
    this.cost.tokens_in += Number(about.tokens_in) || 0;
    this.cost.tokens_out += Number(about.tokens_out) || 0;
    if (typeof about.cost_usd === "number") this.cost.usd += about.cost_usd;
    else this.cost.unpriced += 1;
    const failed = about.error !== undefined && about.error !== null;
    this.#push("model", type, at, about, { title: String(about.model ?? "model"), tone: failed ? "bad" : "model", state: failed ? "failed" : "done" });
  }

  #step(type, at, about) {
    const name = `step ${about.key ?? about.name}`;
    const title = String(about.name ?? "step");
    const states = { "step.completed": "done", "step.failed": "failed", "step.skipped": "skipped", "step.retrying": "retrying" };
    if (type === "step.started") this.#begin(name, "step", type, at, about, { title });
    else if (type === "step.retrying") this.#end(name, "step", type, at, about, { title, state: "retrying", error: about.error, attempt: about.attempt }, true);
    else if (states[type]) this.#end(name, "step", type, at, about, { title, state: states[type], error: about.error });
    else this.#push("event", type, at, about, { about });
  }

  #begin(name, kind, type, at, data, more) {
    const retried = this.open.get(name);
    if (retried?.state === "retrying") {
      this.open.set(name, this.#renew(retried, { state: "running", tries: (retried.tries ?? 1) + 1 }));
      return;
    }
    this.open.set(name, this.#push(kind, type, at, data, { tone: kind, state: "running", ...more }));
  }

  #end(name, kind, type, at, data, changes, stays = false) {
    const begun = this.open.get(name);
    const tone = changes.state === "failed" ? "bad" : kind;
    const item =
      begun && this.items.includes(begun)
        ? this.#renew(begun, { ...changes, tone, until: stays ? undefined : at })
        : this.#push(kind, type, at, data, { title: String(data.name ?? kind), tone, ...changes, until: undefined });
    if (stays) this.open.set(name, item);
    else this.open.delete(name);
  }
}

function toneOf(level) {
  const loud = ["error", "critical", "alert", "emergency"];
  return loud.includes(level) ? "bad" : level === "warning" ? "warn" : "log";
}
