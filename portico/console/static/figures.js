// Figures: calls, latencies, loop lag: one row a second, of the last ten minutes. Columns, as the plots take them.
import { milliseconds } from "./clock.js";
import { Observable } from "./observable.js";

/** Seconds that are kept. */
export const WINDOW = 600;

/** Where each column's value stands in the event. */
const COLUMNS = {
  admitted: (one) => one.calls?.admitted,
  ok: (one) => one.calls?.ok,
  failed: (one) => one.calls?.failed,
  rejected: (one) => one.calls?.rejected,
  inFlight: (one) => one.calls?.in_flight,
  p50: (one) => one.latency_ms?.p50,
  p95: (one) => one.latency_ms?.p95,
  p99: (one) => one.latency_ms?.p99,
  lag: (one) => one.loop_lag_ms,
};

export class Figures extends Observable {
  /** Seconds since the epoch, rising. */
  times = [];
  columns = Object.fromEntries(Object.keys(COLUMNS).map((name) => [name, []]));
  /** The newest event. */
  last = null;

  constructor(stream) {
    super();
    stream.on("figures", (one) => this.#add(one));
  }

  clear() {
    this.#drop(this.times.length);
    this.last = null;
    this.changed();
  }

  #add(one) {
    const at = milliseconds(one.at) / 1000;
    if (!Number.isFinite(at)) return;
    const before = this.times.at(-1) ?? Number.NEGATIVE_INFINITY;
    if (at <= before && before - at < 60) return; // told twice, after a resumption
    if (at < before) this.#drop(this.times.length); // the gateway's clock was set back
    if (at - before > 3 && Number.isFinite(before)) this.#row((before + at) / 2, null); // a hole is a hole, not a line across it
    this.#row(at, one);
    this.last = one;
    const old = this.times.findIndex((time) => time > at - WINDOW);
    if (old > 60) this.#drop(old);
    this.changed();
  }

  #row(at, one) {
    this.times.push(at);
    for (const [name, value] of Object.entries(COLUMNS)) this.columns[name].push((one && value(one)) ?? null);
  }

  #drop(number) {
    this.times.splice(0, number);
    for (const column of Object.values(this.columns)) column.splice(0, number);
  }

  /** The mean of a column over the last `seconds`; null where there is nothing. */
  mean(name, seconds) {
    const values = this.#lately(name, seconds);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }

  /** The greatest value of a column over the last `seconds`. */
  greatest(name, seconds) {
    const values = this.#lately(name, seconds);
    return values.length ? Math.max(...values) : null;
  }

  #lately(name, seconds) {
    const since = (this.times.at(-1) ?? 0) - seconds;
    const begin = this.times.findIndex((time) => time > since);
    return begin < 0 ? [] : this.columns[name].slice(begin).filter((value) => value !== null);
  }
}
