// Readiness: whether the gateway is ready, and if not, what of it is not. Asked for now and then, and after each event of a process.
import { Observable } from "./observable.js";

/** Milliseconds between two looks. */
const PACE = 15_000;
/** The same where something happened to a process, at least; a slow look makes it longer. */
const SOON = 2_000;
/** A look may take this share of the time: with many processes it is work for the gateway. */
const SHARE = 20;

export class Readiness extends Observable {
  /** "unknown", "ready", "unready" or "unreachable". */
  state = "unknown";
  /** The document of `/readyz`. */
  document = null;
  #api;
  #timer = 0;
  #due = 0;
  #took = 0;
  #asking = false;

  constructor(api, stream) {
    super();
    this.#api = api;
    stream.on("process.status", () => this.#in(Math.max(SOON, SHARE * this.#took)));
    stream.on("hello", () => this.#in(0));
  }

  open() {
    this.#in(0);
  }

  /** Look after so many milliseconds, or earlier where that is planned already. */
  #in(milliseconds) {
    const due = Date.now() + milliseconds;
    if (this.#timer && this.#due <= due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => this.#ask(), milliseconds);
  }

  async #ask() {
    this.#timer = 0;
    if (this.#asking || document.hidden) {
      this.#in(PACE);
      return;
    }
    this.#asking = true;
    const began = Date.now();
    try {
      this.document = await this.#api.get("readyz", { patience: 10_000 });
      this.state = "ready";
    } catch (problem) {
      this.document = problem.body;
      this.state = problem.status === 503 ? "unready" : "unreachable";
    } finally {
      this.#asking = false;
      this.#took = Date.now() - began;
    }
    this.changed();
    this.#in(Math.max(PACE, SHARE * this.#took));
  }
}
