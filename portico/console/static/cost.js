// Cost: what model calls have cost, and whether that is all: what has no price is said, never taken for nothing.
import { html } from "./html.js";
import { count, dollars, plural } from "./format.js";

/** `usage`: of a run, or a row of `GET /usage`. */
export function Cost({ usage }) {
  if (!usage?.calls) return null;
  const unpriced = usage.unpriced_calls ?? 0;
  const known = typeof usage.cost_usd === "number" && unpriced < usage.calls;
  const title = unpriced ? `${count(unpriced)} of ${plural(usage.calls, "model call")} have no price` : plural(usage.calls, "model call");
  return html`<span title=${title}>${known ? dollars(usage.cost_usd) : ""}${unpriced ? html`<span class="warn-text">${known ? " + unpriced" : "no price"}</span>` : ""}</span>`;
}
