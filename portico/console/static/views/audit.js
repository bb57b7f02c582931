// AuditView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function AuditView() {
  return html`<div class="view"><${ViewHead} title="Audit" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}
