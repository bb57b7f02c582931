// Typed: a filter that somebody types, applied a moment after the last key.
import { html, useEffect, useRef, useState } from "./html.js";

/** Milliseconds. */
const MOMENT = 300;

/** `onChange(name, value)`. `options`: what is often typed. */
export function Typed({ label, name, value = "", onChange, options = null }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  const sent = useRef(value);
  useEffect(() => {
    if (value !== sent.current) setText(value); // the address has changed, and not by this
    sent.current = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const typed = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      sent.current = next.trim();
      onChange(name, next.trim());
    }, MOMENT);
  };
  return html`<label class="filter"><span>${label}</span><input type="search" name=${name} value=${text} autocomplete="off" spellcheck=${false} list=${options ? `typed-${name}` : undefined} onInput=${typed} />
    ${options && html`<datalist id=${`typed-${name}`}>${options.map((one) => html`<option value=${one}></option>`)}</datalist>`}</label>`;
}
