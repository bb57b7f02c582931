// ListState: what stands beside a list of pages: that it comes, why it does not come, that there is nothing in it.
import { html } from "./html.js";
import { visible } from "./text.js";

/** Below a list: what goes on with it. `list`: a Pages. */
export function ListFoot({ list, one, many }) {
  const number = list.rows.length.toLocaleString("en");
  return html`<p class="list-foot muted" aria-live="off">
    ${list.state === "more" ? `${number} ${many}, more come …` : list.state === "loading" ? "Loading …" : `${number} ${list.rows.length === 1 ? one : many}${list.complete ? "" : ", more as you scroll"}`}
  </p>`;
}

/** Why something could not be read, with a way to try again. */
export function Trouble({ problem, what, onAgain }) {
  const forbidden = problem.status === 403;
  return html`<div class="complaint" role="alert">
    <p>${forbidden ? `${what} cannot be shown: this key has no scope "admin".` : `${what} could not be read: ${visible(problem.message)}`}</p>
    ${!forbidden && onAgain && html`<button type="button" class="button" onClick=${onAgain}>Try again</button>`}
  </div>`;
}

/** Where there is nothing. */
export function Empty({ title, children }) {
  return html`<div class="empty"><strong>${title}</strong>${children && html`<p>${children}</p>`}</div>`;
}
