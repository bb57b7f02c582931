// UpstreamsView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function UpstreamsView() {
  return html`<div class="view"><${ViewHead} title="Upstreams" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}
