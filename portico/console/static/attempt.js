// Attempt: one ask that somebody tries from the page: sent, followed where it streams, and what came of it.
import { Observable } from "./observable.js";
import { Problem } from "./problem.js";
import { Story } from "./story.js";
import { createParser } from "./vendor/eventsource-parser/index.js";

/** Characters of a reply that are read; of a longer one the rest is left. */
const MOST = 16 * 1024 * 1024;

/** How an ask can be sent: what the page says, and the headers that say it to the gateway. */
export const WAYS = {
  wait: { word: "Wait for the reply", headers: { Accept: "application/json, */*;q=0.5" } },
  stream: { word: "Stream its events", headers: { Accept: "text/event-stream" } },
  async: { word: "Start a run and go on", headers: { Accept: "application/json", Prefer: "respond-async" } },
};

export class Attempt extends Observable {
  /** "running", "done", "failed" or "given-up". */
  state = "running";
  /** `{status, headers, value, text, blob, size}` of an answer; `value` where it is JSON, `text` where it is a text. */
  answer = null;
  /** The events of one that streams. */
  story = null;
  /** Why it failed: a Problem, or null. */
  problem = null;
  /** Milliseconds that it took. */
  took = 0;
  #control = new AbortController();

  /** Send it. `way`: a key of `WAYS`. */
  constructor(api, path, payload, way) {
    super();
    this.#run(api, path, payload, WAYS[way]);
  }

  /** The run's id, where the gateway has named one. */
  get runId() {
    const place = this.answer?.headers.get("location")?.match(/\/runs\/([^/?]+)$/)?.[1];
    return this.problem?.runId || (place && decodeURIComponent(place)) || this.answer?.value?.run_id || "";
  }

  stop() {
    this.#control.abort();
  }

  async #run(api, path, payload, { headers: { Accept: accept, ...headers } }) {
    const { signal } = this.#control;
    const began = performance.now();
    try {
      const response = await api.request("POST", path, { body: payload, accept, headers, signal, patience: 0 });
      this.answer = { status: response.status, headers: response.headers };
      if (response.headers.get("content-type")?.startsWith("text/event-stream")) await this.#follow(response);
      else Object.assign(this.answer, await read(response));
      this.state = this.problem ? "failed" : "done";
    } catch (error) {
      this.problem = Problem.from(error);
      this.state = signal.aborted ? "given-up" : "failed";
    }
    this.took = performance.now() - began;
    this.changed();
  }

  async #follow(response) {
    this.story = new Story();
    const parser = createParser({ onEvent: (event) => this.#take(event), maxBufferSize: MOST });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parser.feed(value);
      this.changed();
    }
  }

  #take({ event: type = "message", data: text }) {
    let said;
    try {
      said = JSON.parse(text);
    } catch {
      return;
    }
    this.story.add({ seq: said.seq, type, at: said.at, data: said.data });
    if (["run.failed", "run.timed_out", "run.cancelled"].includes(type)) {
      const error = said.data?.error ?? said.data ?? {};
      this.problem = new Problem({ slug: error.slug, title: error.title, detail: error.detail ?? error.message, runId: said.run_id });
    }
  }
}

async function read(response) {
  const kind = response.headers.get("content-type") ?? "";
  const blob = await response.blob();
  const about = { size: blob.size, blob, kind };
  if (!blob.size) return about;
  if (/^application\/(.+\+)?json/.test(kind)) {
    const text = await blob.slice(0, MOST).text();
    try {
      return { ...about, value: JSON.parse(text) };
    } catch {
      return { ...about, text };
    }
  }
  return kind.startsWith("text/") ? { ...about, text: await blob.slice(0, MOST).text() } : about;
}
