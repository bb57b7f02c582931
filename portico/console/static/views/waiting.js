// WaitingView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function WaitingView() {
  return html`<div class="view"><${ViewHead} title="Waiting" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}

/** A component: how many runs wait for an answer. */
export function WaitingBadge() {
  return null;
}
