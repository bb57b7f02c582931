// Clock: what time the gateway has, told by what it sends. The clock of whoever looks at the page may be wrong by years.
import { Observable } from "./observable.js";

/** How many of the last readings count. */
const KEPT = 30;
/** Milliseconds of difference that may be the way alone. */
const NOISE = 1_000;

export class Clock extends Observable {
  #offsets = [];
  #offset = 0;

  /** Something said when it happened, and it came just now. */
  observe(at) {
    const then = milliseconds(at);
    if (!Number.isFinite(then)) return;
    this.#offsets.push(Date.now() - then);
    if (this.#offsets.length > KEPT) this.#offsets.shift();
    const least = Math.min(...this.#offsets); // the quickest way is the best witness
    const offset = Math.abs(least) > NOISE ? least : 0;
    if (Math.abs(offset - this.#offset) > NOISE) this.changed();
    this.#offset = offset;
  }

  /** Milliseconds since the epoch, by the gateway's clock. */
  now() {
    return Date.now() - this.#offset;
  }

  /** Milliseconds by which this machine's clock is ahead; 0 where that may be the way alone. */
  get skew() {
    return this.#offset;
  }
}

/** An instant as the gateway writes it (seconds since the epoch, or ISO 8601) in milliseconds since the epoch; NaN for others. */
export function milliseconds(at) {
  if (typeof at === "number") return at * 1000;
  return typeof at === "string" ? Date.parse(at) : Number.NaN;
}
