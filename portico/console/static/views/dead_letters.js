// LettersView.
import { html } from "../html.js";
import { ViewHead } from "../view_head.js";

export function LettersView() {
  return html`<div class="view"><${ViewHead} title="Dead letters" /><div class="view-body"><p class="empty">Not made yet.</p></div></div>`;
}
