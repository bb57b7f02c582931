// TrafficView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function TrafficView() {
  return html`<div class="view"><${ViewHead} title="Traffic" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}
