// Readiness: whether the gateway is ready, and if not, what of it is not. Asked for now and then, and after each event of a process.
import { Observable } from "./observable.js";

const PACE = 15_000;
const SOON = 1_000;

export class Readiness extends Observable {
  /** "unknown", "ready", "unready" or "unreachable". */
  state = "unknown";
  /** The document of `/readyz`. */
  document = null;
  #api;
  #timer = 0;
  #asking = false;

  constructor(api, stream) {
    super();
    this.#api = api;
    stream.on("process.status", () => this.#in(SOON));
    stream.on("hello", () => this.#in(0));
  }

  open() {
    this.#in(0);
  }

  #in(milliseconds) {
    if (milliseconds === SOON && this.#soon) return;
    this.#soon = milliseconds === SOON;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), milliseconds);
  }
  #soon = false;

  async #ask() {
    this.#soon = false;
    if (this.#asking || document.hidden) {
      this.#in(PACE);
      return;
    }
    this.#asking = true;
    try {
      this.document = await this.#api.get("readyz", { patience: 10_000 });
      this.state = "ready";
    } catch (problem) {
      this.document = problem.body;
      this.state = problem.status === 503 ? "unready" : "unreachable";
    } finally {
      this.#asking = false;
    }
    this.changed();
    this.#in(PACE);
  }
}
