// News: what happened to processes lately, in words; the last few hundred of them. What matters is announced.
import { Observable } from "./observable.js";
import { short } from "./text.js";

const KEPT = 300;

export class News extends Observable {
  /** `{number, at, kind, name, text, weight}`, the newest last; weight: "bad", "good" or "plain". */
  list = [];
  #announcer;
  #number = 0;

  constructor(stream, announcer) {
    super();
    this.#announcer = announcer;
    stream.on("process", (data, kind) => this.#take(data, kind));
    stream.on("message", (data, kind) => this.#take(data, kind));
    stream.on("gap", () => this.#add({ at: Date.now() / 1000, kind: "gap", name: "", text: "Some events were missed; everything was read anew", weight: "plain" }));
  }

  clear() {
    this.list = [];
    this.changed();
  }

  #take(data, kind) {
    const said = WORDS[kind]?.(data);
    if (!said) return;
    const [text, weight] = said;
    this.#add({ at: data.at, kind, name: data.name, text, weight });
    if (weight === "bad") this.#announcer.say(`${short(data.name, 60)}: ${short(text, 120)}`);
  }

  #add(one) {
    one.number = ++this.#number;
    this.list.push(one);
    if (this.list.length > 2 * KEPT) this.list.splice(0, this.list.length - KEPT);
    this.changed();
  }
}

const WORDS = {
  "process.crashed": (data) => [`crashed: ${reason(data)}`, "bad"],
  "process.restarted": () => ["restarted", "good"],
  "process.stopped": () => ["stopped", "plain"],
  "process.failed": (data) => [`failed for good: ${reason(data)}`, "bad"],
  "process.blocking": (data) => [`held up the event loop for ${Number(data.seconds).toFixed(2)} s`, "bad"],
  "process.replaced": () => ["was replaced by another class", "plain"],
  "process.status": (data) =>
    ({ suspended: ["suspended", "plain"], running: data.before === "suspended" ? ["resumed", "plain"] : null })[data.status],
  "message.dead_letter": (data) => [`a message became a dead letter: ${data.reason ?? "undeliverable"}`, "bad"],
};

/** Why a process ended, in one line of at most 300 characters. */
export function reason(data) {
  const error = data.error;
  if (error && typeof error === "object") return cut(`${error.type ?? "error"}: ${error.message ?? ""}`);
  return cut(String(error ?? data.reason ?? "for no known reason"));
}

function cut(text) {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
