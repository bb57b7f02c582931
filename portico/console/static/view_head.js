// ViewHead: what stands on top of every view.
import { html } from "./html.js";

/** A component: the title of a view, and its tools. */
export function ViewHead({ title, children }) {
  return html`<div class="view-head"><h1>${title}</h1>${children && html`<div class="tools">${children}</div>`}</div>`;
}
