// Timeline: a Story as a list, from its beginning to now. What is long is folded, and drawn only when somebody opens it.
import { html, useRef, useState } from "./html.js";
import { milliseconds } from "./clock.js";
import { clockTime, count, dollars, duration, instant, plural } from "./format.js";
import { Icon } from "./icon.js";
import { Json, Long } from "./json_view.js";
import { short, visible } from "./text.js";

/** How many items are drawn, and how many more for each wish. */
const SHOWN = 300;
/** What has fewer characters than this is not folded. */
const BRIEF = 160;

/** Which sign an item has: a picture of `icon.js`, or one of these. */
const SIGNS = { begin: "queued", again: "restarting", wait: "waiting", resume: "running", good: "done", bad: "failed", stop: "cancelled", warn: "failed", log: "queued", step: "runs" };
const PATHS = {
  move: "M8.500 3 13 7.500 8.500 12l-1.100-1.100 2.600-2.600H3V6.700h7L7.400 4.100Z",
  tool: "M10.500 1.500a4 4 0 0 0-3.800 5.300L1.500 12 4 14.500l5.200-5.200a4 4 0 0 0 5.100-5L12 6.600 9.400 6.600V4l2.300-2.300a4 4 0 0 0-1.200-.2Z",
  model: "M8 1.500 9.700 6.300 14.500 8 9.700 9.700 8 14.500 6.300 9.700 1.500 8 6.300 6.300Z",
  text: "M2.500 4h11v1.600h-11Zm0 3.200h11v1.600h-11Zm0 3.200H9V12H2.500Z",
  dot: "M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6Z",
};
const STATES = { running: "running", done: "done", failed: "failed", skipped: "stored result used", retrying: "tried again", broken: "broken off" };

/** `story`: a Story · `tail`: what stands at its end while it goes on. */
export function Timeline({ story, tail = null }) {
  const [shown, setShown] = useState(SHOWN);
  const items = story.items.slice(-shown);
  const hidden = story.items.length - items.length;
  const start = milliseconds(story.begun);
  // An item that is the same object as before is the same drawing: a long story grows without being drawn anew.
  const drawn = useRef(new WeakMap()).current;
  const entry = (item) => {
    if (!drawn.has(item)) drawn.set(item, html`<${Entry} key=${item.key} item=${item} start=${start} />`);
    return drawn.get(item);
  };
  return html`<div class="timeline">
    ${story.dropped > 0 && html`<p class="muted">${plural(story.dropped, "earlier entry", "earlier entries")} ${story.dropped === 1 ? "is" : "are"} kept here no more.</p>`}
    ${hidden > 0 && html`<button type="button" class="button quiet" onClick=${() => setShown(shown + SHOWN)}>Show ${count(Math.min(hidden, SHOWN))} earlier of ${count(hidden)}</button>`}
    <ol class="timeline-items" aria-label="What happened">
      ${items.map(entry)}
    </ol>
    ${tail}
  </div>`;
}

function Entry({ item, start }) {
  const offset = (milliseconds(item.at) - start) / 1000;
  const tone = item.state === "failed" ? "bad" : item.tone;
  return html`<li class=${`timeline-item tone-${tone} kind-${item.kind} ${item.past ? "past" : ""}`}>
    <span class="timeline-sign" aria-hidden="true"><${Sign} name=${item.kind === "text" || item.kind === "message" ? "text" : tone} /></span>
    <div class="timeline-body"><${Body} item=${item} /></div>
    <time class="timeline-time" datetime=${item.at} title=${`${instant(item.at)} · ${item.type}`}>${Number.isFinite(offset) ? offset < 0.001 ? "+0 ms" : `+${duration(offset)}` : clockTime(item.at)}</time>
  </li>`;
}

function Sign({ name }) {
  if (SIGNS[name]) return html`<${Icon} name=${SIGNS[name]} size=${13} />`;
  return html`<svg class="icon" viewBox="0 0 16 16" width="13" height="13" focusable="false"><path fill="currentColor" fill-rule="evenodd" d=${PATHS[name] ?? PATHS.dot} /></svg>`;
}

function Body({ item }) {
  switch (item.kind) {
    case "text":
      return html`<${Head} item=${item} what="Text" more=${item.pieces > 1 ? `in ${count(item.pieces)} pieces` : ""} /><p class="prose"><${Long} text=${item.text} cut=${4000} lines /></p>`;
    case "message":
      return html`<${Head} item=${item} what="Model says" />${typeof item.content === "string" ? html`<p class="prose"><${Long} text=${item.content} cut=${4000} lines /></p>` : html`<${Json} value=${item.content} label="message" />`}`;
    case "tool":
      return html`<${Head} item=${item} what="Tool" name />
        <${Folded} value=${item.data.arguments} label="arguments" />
        ${item.state === "failed" ? html`<${Folded} value=${item.error} label="error" bad />` : item.state === "done" && html`<${Folded} value=${item.result} label="result" />`}`;
    case "model":
      return html`<${Head} item=${item} what="Model" name more=${spent(item.data)} />${item.state === "failed" && html`<${Folded} value=${item.data.error} label="error" bad />`}`;
    case "step":
      return html`<${Head} item=${item} what="Step" name more=${item.tries > 1 ? `${item.tries} tries` : ""} />${item.error && html`<${Folded} value=${item.error} label="error" bad />`}`;
    case "progress":
      return html`<${Progress} about=${item.data} />`;
    case "log":
      return html`<p class="timeline-head"><span class=${`level tone-${item.tone}`}>${short(item.title, 20)}</span>${" "}${item.data?.logger ? html`<code>${short(item.data.logger, 60)}</code>${" "}` : ""}<${Said} data=${item.data?.data} /></p>`;
    case "mark":
      return html`<${Mark} item=${item} />`;
    default:
      return html`<p class="timeline-head"><code>${short(item.type, 100)}</code></p><${Folded} value=${item.data} label="data" />`;
  }
}

function Head({ item, what, name = false, more = "" }) {
  const seconds = item.until && item.state ? (milliseconds(item.until) - milliseconds(item.at)) / 1000 : 0;
  const took = seconds >= 0.001 ? duration(seconds) : "";
  const state = item.state && !(item.kind === "model" && item.state === "done") ? STATES[item.state] : "";
  return html`<p class="timeline-head">
    <span class="muted">${what}</span>${name && html`${" "}<code class="timeline-name">${short(item.title, 160)}</code>`}
    ${state && html`${" "}<span class=${`state ${item.state}`}>${state}${took && item.state !== "running" ? ` in ${took}` : ""}</span>`}
    ${more && html`${" "}<span class="muted">${more}</span>`}
    ${item.past && html`${" "}<span class="muted">counts no more</span>`}
  </p>`;
}

function spent({ tokens_in: before, tokens_out: after, cost_usd: cost, seconds, ms }) {
  const tokens = before === undefined && after === undefined ? "" : `${count(before ?? 0)} → ${count(after ?? 0)} tokens`;
  const price = typeof cost === "number" ? dollars(cost) : "no price";
  const took = Number.isFinite(seconds) ? duration(seconds) : Number.isFinite(ms) ? duration(ms / 1000) : "";
  return [tokens, price, took].filter(Boolean).join(" · ");
}

function Mark({ item }) {
  const about = item.about ?? {};
  const attempt = item.type === "run.restarted" && about.attempt ? ` (attempt ${about.attempt})` : "";
  return html`<p class="timeline-head"><strong>${item.title}${attempt}</strong>${item.past && html`${" "}<span class="muted">counts no more</span>`}</p><${MarkMore} item=${item} about=${about} />`;
}

function MarkMore({ item, about }) {
  switch (item.type) {
    case "run.started":
      return html`<p class="muted"><code>${short(about.agent ?? "", 100)}</code> · <code>${short(about.operation ?? "", 100)}</code></p>`;
    case "run.restarted":
      return html`<p class="muted">The handling went another way: what stands above counts no more.</p>`;
    case "run.waiting":
      return about.prompt ? html`<p class="prose">${short(about.prompt, 400)}</p>` : about.until ? html`<p class="muted">until ${instant(about.until)}</p>` : null;
    case "run.resumed":
      return html`<p class="muted">${about.answered === false ? "The time was over." : "The input has come."}</p>`;
    case "run.transferred":
      return html`<p><code>${short(about.from ?? "", 100)}</code> ⇢ <code>${short(about.to ?? "", 100)}</code>${about.reason ? html` · ${short(about.reason, 300)}` : ""}</p>`;
    case "gap":
      return html`<p class="muted">Events ${about.from} to ${about.to} are kept no more.</p>`;
    case "run.succeeded":
    case "checkpoint":
      return null; // the output stands beside
    case "tool.refused":
    case "tool.shadowed":
      return html`<p><code>${short(about.name ?? "", 100)}</code>${" "}${short(about.reason ?? (about.shadows ? `shadows ${about.shadows}` : ""), 300)}</p>`;
    default:
      return about.detail ? html`<p>${short(about.detail, 600)}</p>` : null;
  }
}

/** Any data: as it is where it is brief, else folded. */
function Folded({ value, label, bad = false }) {
  const [open, setOpen] = useState(false);
  if (value === undefined) return null;
  const line = typeof value === "string" ? value : JSON.stringify(value);
  if (line.length <= BRIEF) return html`<p class=${`brief ${bad ? "bad-text" : ""}`}><span class="muted">${label}</span> <code>${visible(line)}</code></p>`;
  return html`<details class="folded" open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary><span class="muted">${label}</span> <code class=${bad ? "bad-text" : ""}>${short(line, 100)}</code></summary>
    ${open && html`<${Json} value=${value} label=${label} />`}
  </details>`;
}

function Said({ data }) {
  const text = typeof data === "string" ? data : JSON.stringify(data ?? null);
  return html`<span class="prose"><${Long} text=${text} cut=${600} /></span>`;
}

/** How far the work is. `about`: what an event says of it. Not one property for each of its members: Preact has its own `ref` and `key`. */
export function Progress({ about: { done, total, note } }) {
  const known = Number.isFinite(done) && Number.isFinite(total) && total > 0;
  const said = known ? `${count(done)} of ${count(total)}` : Number.isFinite(done) ? count(done) : "";
  return html`<p class="timeline-head progress">
    ${known ? html`<progress value=${Math.min(done, total)} max=${total} aria-label="Progress"></progress>` : html`<span class="muted">Progress</span>`}
    ${" "}<span class="tabular">${said}</span>${" "}<span class="muted">${note ? short(note, 200) : ""}</span>
  </p>`;
}
