// Icon: small pictures, drawn with the text's colour. Decoration: what one means always stands beside it in words.
import { html } from "./html.js";

const PATHS = {
  running: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Zm-2 3.500v5l4.500-2.500Z",
  waiting: "M4 2h8v2.500L9 8l3 3.500V14H4v-2.500L7 8 4 4.500Z",
  suspended: "M3.500 3h3v10h-3zM9.500 3h3v10h-3z",
  restarting: "M8 2.500a5.500 5.500 0 0 1 4.800 2.800V3h1.700v5h-5V6.300h2.100A3.800 3.800 0 1 0 11.700 9h1.700A5.500 5.500 0 1 1 8 2.500Z",
  starting: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Zm0 1.700a4.300 4.300 0 1 0 0 8.600 4.300 4.300 0 0 0 0-8.600Z",
  stopped: "M3 3h10v10H3z",
  failed: "M8 1 15 14H1ZM7.200 6v4h1.600V6Zm0 5v1.600h1.600V11Z",
  done: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2Zm-.8 8.700 4-4-1.100-1.100-2.900 2.900-1.300-1.300-1.100 1.100Z",
  cancelled: "M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM5 7.200v1.600h6V7.200Z",
  queued: "M3 4h10v1.700H3zM3 7.200h10v1.600H3zM3 10.300h6V12H3z",
  open: "M3.500 5.500 8 10l4.500-4.500 1 1L8 12 2.500 6.500Z",
  shut: "M5.500 3.500 10 8l-4.500 4.500 1 1L12 8 6.500 2.500Z",
  close: "m4 3 4 4 4-4 1 1-4 4 4 4-1 1-4-4-4 4-1-1 4-4-4-4Z",
  tree: "M2 2h5v4H5.300v2H9V6.500h5v4H9V9.500H5.300v3H9V11h5v4H9v-1H4V6H2Z",
  traffic: "M2 13h12v1.500H2zM2.500 11 6 6l2.500 3L13 2.500l1.200.9L8.600 11.300 6.100 8.400l-2.400 3.400Z",
  runs: "M3 2h10v3H3zM3 6.500h10v3H3zM3 11h10v3H3z",
  letters: "M1.500 3.500h13v9h-13ZM3 5v.6l5 3.400 5-3.400V5Zm0 2.500V11h10V7.500L8 10.900Z",
  upstreams: "M7.200 1.500h1.600V5H12v6H8.800v3.500H7.200V11H4V5h3.200Z",
  usage: "M2 9h3v5H2zM6.500 5h3v9h-3zM11 2h3v12h-3z",
  audit: "M3 1.500h7l3 3v10H3Zm2 5V8h6V6.500Zm0 3V11h6V9.500Z",
  copy: "M5 1.500h9v9h-2.500V14h-9V5H5ZM6.500 3v2h5v4h1V3ZM4 6.500v6h6v-6Z",
  search: "M7 2a5 5 0 0 1 4 8l3 3-1 1-3-3a5 5 0 1 1-3-9Zm0 1.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7Z",
};

/** Which picture a status has. */
const ALIAS = { created: "starting", stopping: "stopped", draining: "queued", succeeded: "done", accepted: "queued", timed_out: "failed", connected: "done" };

export function Icon({ name, size = 16 }) {
  const path = PATHS[ALIAS[name] ?? name];
  if (!path) return null;
  return html`<svg class="icon" viewBox="0 0 16 16" width=${size} height=${size} aria-hidden="true" focusable="false">
    <path fill="currentColor" fill-rule="evenodd" d=${path} />
  </svg>`;
}

/** A component: a state as shape, colour and word. `label` where the word is another than the status. */
export function Status({ status, label }) {
  if (!status) return null;
  return html`<span class="status" data-status=${status}><${Icon} name=${status} size=${14} /><span>${label ?? String(status).replaceAll("_", " ")}</span></span>`;
}
