// Stream: events as they happen, over fetch, so that the key is a header. It comes back by itself after whatever ends it.
import { Observable } from "./observable.js";
import { Problem } from "./problem.js";
import { createParser } from "./vendor/eventsource-parser/index.js";

/** Milliseconds without a byte after which a connection counts as dead; the gateway pings every 15 s. */
const SILENCE = 45_000;
/** Milliseconds before the first attempt to come back; each further one waits twice as long. */
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
/**
 * Milliseconds for which a hidden tab goes on listening. Few: it costs nothing to come back, and over HTTP/1.1 a browser has six
 * connections for a host, so that six tabs that listen keep it from everything else.
 */
const HIDDEN = 5_000;
/** Milliseconds between two looks at what changes, of those who may not listen. */
const BLIND = 10_000;
/** Characters of one event. */
const LONGEST_EVENT = 8 * 1024 * 1024;

export class Stream extends Observable {
  /** "connecting", "live", "waiting" (for the next attempt), "paused" (the tab is hidden), "refused" (by 401, 403 or 404), "closed". */
  state = "closed";
  /** Why it is not live: a Problem, or null. */
  problem = null;
  /** What the gateway said of itself at the beginning: `{life, version, started_at}`. */
  hello = null;
  /** When the next attempt is made: milliseconds since the epoch. */
  retryAt = 0;
  /** Events that came, since the page was opened. */
  received = 0;
  #api;
  #path;
  #ends;
  #handlers = new Map();
  #lastId = "";
  /** Whether the connection goes on from an event: where something is missing, the gateway says so itself. */
  #resumes = false;
  /** Whether the connection goes on where the last one ended: then nothing is missing, or a gap is told. */
  resumed = false;
  #attempt = 0;
  #controller = null;
  #timers = { silence: 0, retry: 0, hidden: 0, blind: 0 };

  #leave = new AbortController();

  /** `path`: of the gateway · `ends(kind)`: whether no event comes after one of that kind, as a run's last. */
  constructor(api, path, { ends = () => false } = {}) {
    super();
    this.#api = api;
    this.#path = path;
    this.#ends = ends;
  }

  /**
   * Call `handler(data, kind)` for each event whose kind is `kind` or begins with it and a dot; "*" for every one. Returns what ends
   * that. "gap": what was missed is not known, so read everything anew. "blind": nothing is told here, for the stream is refused, and
   * again some time is over: look at what may have changed.
   */
  on(kind, handler) {
    const handlers = this.#handlers.get(kind) ?? this.#handlers.set(kind, new Set()).get(kind);
    handlers.add(handler);
    return () => handlers.delete(handler);
  }

  /** Connect, now. */
  open() {
    this.#stop();
    this.#leave.abort();
    this.#leave = new AbortController();
    const { signal } = this.#leave;
    document.addEventListener("visibilitychange", () => this.#visibility(), { signal });
    addEventListener("online", () => this.state === "waiting" && this.open(), { signal });
    this.#controller = new AbortController();
    this.#become("connecting");
    this.#run(this.#controller);
    this.#visibility(); // a tab may be opened behind another
  }

  /** Disconnect, for good; the next `open` begins anew. */
  close() {
    this.#stop();
    this.#leave.abort();
    clearTimeout(this.#timers.hidden);
    this.#lastId = "";
    this.#become("closed");
  }

  #stop() {
    clearTimeout(this.#timers.silence);
    clearTimeout(this.#timers.retry);
    clearInterval(this.#timers.blind);
    this.#controller?.abort();
    this.#controller = null;
  }

  async #run(controller) {
    const { signal } = controller;
    try {
      this.#resumes = this.#lastId !== "";
      const headers = this.#resumes ? { "Last-Event-ID": this.#lastId } : {};
      const accept = "text/event-stream";
      const response = await this.#api.request("GET", this.#path, { accept, headers, signal });
      this.problem = null;
      this.#become("live");
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
    this.problem = problem;
    if ([401, 403, 404, 405, 406].includes(problem.status)) {
      this.#timers.blind = setInterval(() => document.hidden || this.#hand("blind", {}, "blind"), BLIND);
      this.#become("refused");
      return;
    }
    const bound = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#attempt++);
    // Jitter: the pages that one restart has thrown off do not come back in one moment.
    const wait = Math.max(problem.retryAfter * 1000, bound / 2 + Math.random() * (bound / 2));
    this.retryAt = Date.now() + wait;
    this.#timers.retry = setTimeout(() => this.open(), wait);
    this.#become("waiting");
  }

  #take(event) {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return; // no event of ours
    }
    this.received++;
    this.#attempt = 0;
    if (event.id) this.#lastId = event.id;
    const kind = event.event ?? "message";
    if (kind === "hello") this.#greeted(data);
    this.#hand(kind, data, kind);
    this.#hand("*", data, kind);
    const dot = kind.indexOf(".");
    if (dot > 0) this.#hand(kind.slice(0, dot), data, kind);
    if (this.#ends(kind)) this.close();
  }

  #greeted(hello) {
    const before = this.hello;
    this.hello = hello;
    this.resumed = this.#resumes && before?.life === hello.life;
    this.changed();
    if (!this.#resumes && before && before.life !== hello.life) this.#hand("gap", { from: null, to: null }, "gap");
  }

  #hand(key, data, kind) {
    for (const handler of this.#handlers.get(key) ?? []) handler(data, kind);
  }

  #visibility() {
    clearTimeout(this.#timers.hidden);
    if (document.hidden) {
      this.#timers.hidden = setTimeout(() => {
        if (!["connecting", "live", "waiting"].includes(this.state)) return;
        this.#stop();
        this.#become("paused");
      }, HIDDEN);
    } else if (this.state === "paused" || this.state === "waiting") {
      this.open();
    }
  }

  #become(state) {
    this.state = state;
    this.changed();
  }
}
