// ListState: what stands beside a list of pages: that it comes, why it does not come, that there is nothing in it.
import { plural } from "./format.js";
import { html } from "./html.js";
import { notAdmin } from "./problem.js";
import { visible } from "./text.js";

/** Below a list: how much of it is there, and what is older. `list`: a Pages. */
export function ListFoot({ list, one, many }) {
  const said = list.state === "loading" ? "Loading …" : `${plural(list.rows.length, one, many)}${list.complete ? "" : ", more as you scroll"}`;
  return html`<p class="list-foot muted">
    <span>${said}</span>
    ${!list.complete && list.state !== "loading" && html`${" "}<button type="button" class="link" disabled=${list.state === "more"} onClick=${() => list.more()}>
      ${list.state === "more" ? "Looking further …" : "Look further"}
    </button>`}
    ${list.own && html`${" "}<span>Your own alone: ${list.own}.</span>`}
  </p>`;
}

/** Why something could not be read, with a way to try again. */
export function Trouble({ problem, what, onAgain }) {
  const forbidden = notAdmin(problem);
  return html`<div class="complaint" role="alert">
    <p>${forbidden ? `${what} cannot be shown: ${forbidden}.` : `${what} could not be read: ${visible(problem.message)}`}</p>
    ${!forbidden && onAgain && html`<button type="button" class="button" onClick=${onAgain}>Try again</button>`}
  </div>`;
}

/** Where there is nothing. */
export function Empty({ title, children }) {
  return html`<div class="empty"><strong>${title}</strong>${children && html`<p>${children}</p>`}</div>`;
}
