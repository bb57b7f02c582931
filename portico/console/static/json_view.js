// Json: a value as a tree that opens and closes, cut where it is long, to copy as a whole. Data of strangers: all of it is text.
import { html, useState } from "./html.js";
import { CopyButton } from "./copy.js";
import { count } from "./format.js";
import { download, visible } from "./text.js";

const CUT = 400;
const STEP = 100;
const SMALL = 80;
/** Characters that are shown at most; all of them are in what is copied. */
const MOST = 200_000;

/**
 * @param {object} props
 * @param {any} props.value
 * @param {string} props.label what it is, for whoever hears it
 * @param {number} [props.open] how many levels are open at first
 */
export function Json({ value, label, open = 2 }) {
  return html`<div class="json" role="group" aria-label=${label}>
    <${CopyButton} label=${`Copy ${label}`} text=${() => JSON.stringify(value, null, 2) ?? ""} />
    <div class="json-body code"><${Node} value=${value} open=${open} name="" /></div>
  </div>`;
}

function Node({ value, name, open }) {
  const head = name !== "" && html`<span class="json-name">${visible(String(name))}</span>`;
  if (value === null || typeof value !== "object") return html`<div class="json-line">${head}${head && ": "}<${Leaf} value=${value} /></div>`;
  const entries = Array.isArray(value) ? value.map((one, at) => [at, one]) : Object.entries(value);
  const [before, after] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  if (entries.length === 0) return html`<div class="json-line">${head}${head && ": "}${before}${after}</div>`;
  return html`<${Branch} head=${head} entries=${entries} before=${before} after=${after} open=${open} short=${short(value)} />`;
}

function Branch({ head, entries, before, after, open, short: brief }) {
  const [opened, setOpened] = useState(open > 0 || brief !== null);
  const [shown, setShown] = useState(STEP);
  const count = `${entries.length} ${before === "[" ? (entries.length === 1 ? "entry" : "entries") : entries.length === 1 ? "member" : "members"}`;
  return html`<details class="json-branch" open=${opened} onToggle=${(event) => setOpened(event.currentTarget.open)}>
    <summary>${head}${head && ": "}${before}${opened ? "" : html`<span class="muted"> ${count} </span>${after}`}</summary>
    ${opened &&
    html`<div class="json-inside">
        ${entries.slice(0, shown).map(([key, one]) => html`<${Node} key=${key} name=${key} value=${one} open=${open - 1} />`)}
        ${entries.length > shown &&
        html`<button type="button" class="button quiet small" onClick=${() => setShown(shown + STEP * 10)}>
          ${`Show more (${count(entries.length - shown)} left)`}
        </button>`}
      </div>
      <div class="json-line">${after}</div>`}
  </details>`;
}

function short(value) {
  const flat = Object.values(value).every((one) => one === null || typeof one !== "object");
  return flat && Object.keys(value).length <= 6 ? true : null;
}

function Leaf({ value }) {
  if (typeof value === "string") return html`<span class="json-text">"<${Long} text=${value} />"</span>`;
  return html`<span class="json-plain">${String(value)}</span>`;
}

/** A text within a line, cut where it is long. `lines`: its line feeds stay. */
export function Long({ text, cut = CUT, lines = false }) {
  const [all, setAll] = useState(false);
  if (text.length <= cut + SMALL) return visible(text, { lines });
  const left = text.length - cut;
  const cutAt = all ? MOST : cut;
  return html`${visible(text.slice(0, cutAt), { lines })}${text.length > cutAt ? "…" : ""}${" "}
    <button type="button" class="button quiet small" aria-expanded=${all ? "true" : "false"} onClick=${() => setAll(!all)}>
      ${all ? "Show less" : `Show ${count(left)} more characters`}
    </button>
    ${text.length > MOST && html`<button type="button" class="button quiet small" onClick=${() => download(text, "text.txt")}>Download</button>`}`;
}
