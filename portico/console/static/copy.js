// Copy: puts a text on the clipboard; also where the page came by plain HTTP, to which browsers give no clipboard.
import { html, useEffect, useState } from "./html.js";

const SAID = 2000;

/** @param {string} text @returns {Promise<boolean>} whether it could be done */
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // not allowed: the old way may be
    }
  }
  const back = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "off-screen";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  back?.focus?.();
  return done;
}

/** @param {{label: string, text: () => string}} props */
export function CopyButton({ label, text }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (!said) return undefined;
    const timer = setTimeout(() => setSaid(""), SAID);
    return () => clearTimeout(timer);
  }, [said]);
  const press = async () => setSaid((await copy(text())) ? "Copied" : "Not copied");
  return html`<button type="button" class="button quiet small copy" aria-label=${said ? undefined : label} onClick=${press}><span aria-live="polite">${said || "Copy"}</span></button>`;
}
