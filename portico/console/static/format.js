// Format: numbers, times and sizes as people read them.
import { milliseconds } from "./clock.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const date = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** What stands where there is nothing to say. */
export const NOTHING = "–";

/** A count. */
export function count(value) {
  return Number.isFinite(value) ? whole.format(value) : NOTHING;
}

/** A measured number, to three digits. */
export function measure(value) {
  return Number.isFinite(value) ? fine.format(value) : NOTHING;
}

/** A size in bytes. */
export function bytes(value) {
  if (!Number.isFinite(value)) return NOTHING;
  if (value < 1024) return `${whole.format(value)} B`;
  const unit = Math.min(Math.floor(Math.log2(value) / 10), 4);
  return `${fine.format(value / 1024 ** unit)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A time that something takes, in seconds. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return NOTHING;
  if (seconds < 0) return `−${duration(-seconds)}`;
  if (seconds < 0.001) return `${whole.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${fine.format(seconds * 1000)} ms`;
  if (seconds < 60) return `${fine.format(seconds)} s`;
  const units = [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [unit, size] = units[first];
  const major = Math.floor(seconds / size);
  const next = units[first + 1];
  const minor = next && major < 10 ? Math.floor((seconds - major * size) / next[1]) : 0;
  return minor ? `${major} ${unit} ${minor} ${next[0]}` : `${major} ${unit}`;
}

/** How long ago an instant was, by the gateway's clock (`now`: milliseconds). */
export function ago(at, now) {
  const seconds = (now - milliseconds(at)) / 1000;
  if (!Number.isFinite(seconds)) return NOTHING;
  if (Math.abs(seconds) < 2) return "just now";
  return seconds < 0 ? `in ${duration(Math.round(-seconds))}` : `${duration(Math.floor(seconds))} ago`;
}

/** An instant in full. */
export function instant(at) {
  const then = milliseconds(at);
  return Number.isFinite(then) ? date.format(then) : NOTHING;
}

/** An instant of today. */
export function clockTime(at) {
  const then = milliseconds(at);
  return Number.isFinite(then) ? time.format(then) : NOTHING;
}

/** An amount of US dollars; small ones with the digits that matter. */
export function dollars(value) {
  if (!Number.isFinite(value)) return NOTHING;
  if (value === 0) return "$0";
  return `$${value >= 1 ? value.toFixed(2) : new Intl.NumberFormat("en", { maximumSignificantDigits: 2 }).format(value)}`;
}

/** `1 run`, `2 runs`. */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
