// UsageView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function UsageView() {
  return html`<div class="view"><${ViewHead} title="Usage" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}
