// RunsView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function RunsView() {
  return html`<div class="view"><${ViewHead} title="Runs" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}

/** A component: how many runs wait for an answer. */
export function RunsBadge() {
  return null;
}
