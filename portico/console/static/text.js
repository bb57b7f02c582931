// Text of strangers, made fit to be seen: what cannot be seen, or turns round what stands beside it, becomes a visible escape.
import { html, useState } from "./html.js";
import { bytes } from "./format.js";

// C0 and C1 controls, marks that change direction, what has no width, separators, tags, halves of pairs.
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;
const LINES = /[\n\t]/;
const BRIEF = { "\n": "\\n", "\t": "\\t", "\r": "\\r" };

/** The text with escapes for what cannot be seen. `lines`: line feeds and tabs stay. */
export function visible(value, { lines = false } = {}) {
  return String(value).replace(UNSEEN, (one) => (lines && LINES.test(one) ? one : escaped(one)));
}

/** The same, at most `limit` characters of it. */
export function short(value, limit = 120) {
  const text = String(value);
  return text.length > limit ? `${visible(text.slice(0, limit))}…` : visible(text);
}

function escaped(one) {
  if (one in BRIEF) return BRIEF[one];
  const point = one.codePointAt(0);
  return point > 0xffff ? `\\u{${point.toString(16)}}` : `\\u${point.toString(16).padStart(4, "0")}`;
}

/** A component: a name or another short text, kept apart from what stands around it. */
export function Name({ value, limit = 160 }) {
  const text = String(value ?? "");
  return html`<bdi title=${text.length > limit ? short(text, 1000) : undefined}>${short(text, limit)}</bdi>`;
}

/** A component: a long text as it is, cut after `limit` characters until somebody wants all of it, or wants it as a file. */
export function LongText({ value, limit = 4000, file = "text.txt", label = "text" }) {
  const [whole, setWhole] = useState(false);
  const text = String(value ?? "");
  const cut = text.length > limit && !whole;
  return html`<div class="long-text">
    <pre tabindex="0" role="region" aria-label=${label}>${visible(cut ? text.slice(0, limit) : text, { lines: true })}${cut ? "…" : ""}</pre>
    ${text.length > limit &&
    html`<p class="long-text-more">
      <button type="button" class="link" onClick=${() => setWhole(!whole)}>
        ${whole ? "Show less" : `Show all (${bytes(text.length)})`}
      </button>
      <button type="button" class="link" onClick=${() => download(text, file)}>Download</button>
    </p>`}
  </div>`;
}

/** Hand a text to whoever looks at the page, as a file. */
export function download(text, name) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
