// RunStream: the story of one run, followed until its last event, over whatever ends a connection in between.
import { Observable } from "./observable.js";
import { Problem } from "./problem.js";
import { path } from "./api.js";
import { Story } from "./story.js";
import { createParser } from "./vendor/eventsource-parser/index.js";

/** Milliseconds without a byte after which a connection counts as dead; the gateway pings every 15 s. */
const SILENCE = 45_000;
/** Milliseconds before the first attempt to come back; each further one waits twice as long. */
const FIRST_WAIT = 400;
const LONGEST_WAIT = 10_000;
/** Characters of one event. */
const LONGEST_EVENT = 8 * 1024 * 1024;
/** Answers after which coming back is no use. */
const FINAL = [401, 403, 404, 405, 406];

export class RunStream extends Observable {
  /** "connecting", "live", "waiting" (for the next attempt), "ended" (the run has), "gone" (nobody knows it), "refused" or "closed". */
  state = "closed";
  /** Why it is not live: a Problem, or null. */
  problem = null;
  story = new Story();
  #api;
  #id;
  #attempt = 0;
  #controller = null;
  #timers = { silence: 0, retry: 0 };

  constructor(api, id) {
    super();
    this.#api = api;
    this.#id = id;
  }

  /** Connect, now. */
  open() {
    this.#stop();
    this.#controller = new AbortController();
    this.#become("connecting");
    this.#run(this.#controller);
  }

  close() {
    this.#stop();
    this.#become("closed");
  }

  #stop() {
    clearTimeout(this.#timers.silence);
    clearTimeout(this.#timers.retry);
    this.#controller?.abort();
    this.#controller = null;
  }

  async #run(controller) {
    const { signal } = controller;
    try {
      const headers = this.story.last ? { "Last-Event-ID": String(this.story.last) } : {};
      const accept = "text/event-stream";
      const response = await this.#api.request("GET", `${path("runs", this.#id)}/events`, { accept, headers, signal });
      this.#become("live");
      this.problem = null;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = createParser({ onEvent: (event) => this.#take(event), maxBufferSize: LONGEST_EVENT });
      for (;;) {
        this.#listen(controller);
        const { done, value } = await reader.read();
        if (done || signal.aborted) break;
        parser.feed(value);
      }
      this.#again(controller, new Problem({ slug: "ended", detail: "The gateway has ended the stream." }));
    } catch (error) {
      this.#again(controller, Problem.from(error));
    }
  }

  #listen(controller) {
    clearTimeout(this.#timers.silence);
    this.#timers.silence = setTimeout(() => {
      controller.abort();
      this.#again(controller, new Problem({ slug: "silent", detail: "The gateway has been silent for too long." }));
    }, SILENCE);
  }

  #again(controller, problem) {
    if (this.#controller !== controller) return; // another one has taken over, or it was closed
    this.#stop();
    if (this.story.ended) {
      this.#become("ended");
      return;
    }
    this.problem = problem;
    if (FINAL.includes(problem.status)) {
      this.#become(problem.status === 404 ? "gone" : "refused");
      return;
    }
    const bound = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#attempt++);
    const wait = Math.max(problem.retryAfter * 1000, bound / 2 + Math.random() * (bound / 2));
    this.#timers.retry = setTimeout(() => this.open(), wait);
    this.#become("waiting");
  }

  #take({ event: type = "message", data: text }) {
    let data;
    try {
      data = JSON.parse(text);
    } catch {
      return; // no event of ours
    }
    this.#attempt = 0;
    if (type === "gap") this.story.add({ type, data });
    else if (Number.isInteger(data?.seq)) this.story.add({ seq: data.seq, type, at: data.at, data: data.data });
    else return; // that the stream ends, or breaks off: its end says the same
    this.changed();
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.changed();
  }
}
