// Waiting: the runs that wait for somebody's answer, each with its form; and how many they are.
import { html, useEffect, useState } from "../html.js";
import { Answer, waitOf } from "../answer.js";
import { ago, count, instant } from "../format.js";
import { useGateway } from "../gateway.js";
import { Empty, Trouble } from "../list_state.js";
import { useObservable } from "../observable.js";
import { href } from "../router.js";
import { Name, short } from "../text.js";
import { useTick } from "../tick.js";
import { ViewHead } from "../view_head.js";

/** How many are drawn, and how many more for each wish. */
const SHOWN = 25;

export function WaitingView() {
  const gateway = useGateway();
  const { waiting } = gateway;
  useObservable(waiting);
  useTick(true, 5000);
  const [open, setOpen] = useState(null);
  const [shown, setShown] = useState(SHOWN);
  useEffect(() => waiting.readSoon(), []);
  const only = waiting.runs.length === 1 ? waiting.runs[0].run_id : null;
  const runs = waiting.runs.slice(0, shown);
  return html`<div class="view">
    <${ViewHead} title="Waiting for an answer" />
    <div class="view-body">
      ${waiting.state === "failed" && html`<${Trouble} problem=${waiting.problem} what="What waits" onAgain=${() => waiting.readSoon()} />`}
      ${waiting.state === "unread" && html`<p class="muted">Loading …</p>`}
      ${waiting.state === "read" && !runs.length && html`<${Empty} title="Nothing waits for an answer">Runs whose handler calls ctx.wait_input appear here, with a form.<//>`}
      ${
        runs.length > 0 &&
        html`<ul class="cards">
          ${runs.map((run) => html`<li key=${run.run_id}><${Card} run=${run} now=${gateway.clock.now()} open=${open === run.run_id || (open === null && only === run.run_id)} onToggle=${(on) => setOpen(on ? run.run_id : "")} /></li>`)}
        </ul>`
      }
      ${waiting.runs.length > shown && html`<p><button type="button" class="button" onClick=${() => setShown(shown + SHOWN)}>Show more (${count(waiting.runs.length - shown)} left)</button></p>`}
      ${waiting.more && html`<p class="muted">More wait than are shown here: answer some, or look for them among the runs.</p>`}
    </div>
  </div>`;
}

function Card({ run, now, open, onToggle }) {
  const { waiting, announcer } = useGateway();
  const titled = `waiting-${run.run_id}`;
  const answered = (after) => {
    if (!after) announcer.tell("That run does not wait any more.", "plain");
    waiting.drop(run.run_id);
    document.getElementById("main")?.focus({ preventScroll: true });
  };
  return html`<article class="card" aria-labelledby=${titled}>
    <div class="card-head">
      <h2 id=${titled}><a href=${href(["runs", run.run_id])}><${Name} value=${run.agent} limit=${60} /></a>${run.operation === run.agent ? "" : html`${" "}<span class="muted"><${Name} value=${run.operation} limit=${60} /></span>`}</h2>
      <span class="muted" title=${instant(run.created_at)}>accepted ${ago(run.created_at, now)}${run.principal ? html` for <${Name} value=${run.principal} limit=${40} />` : ""}</span>
      <button type="button" class=${`button ${open ? "quiet" : "primary"}`} aria-expanded=${open ? "true" : "false"} aria-label=${open ? undefined : `Answer ${short(run.agent, 60)}`} onClick=${() => onToggle(!open)}>${open ? "Close" : "Answer"}</button>
    </div>
    ${open ? html`<${Answer} key=${waitOf(run)} run=${run} onAnswered=${answered} />` : html`<p class="answer-prompt">${short(run.waiting_for.prompt ?? "", 300)}</p>`}
  </article>`;
}

/** How many wait. */
export function WaitingBadge() {
  const { waiting } = useGateway();
  useObservable(waiting);
  const number = waiting.runs.length;
  return number ? html`<span class="badge"><span class="visually-hidden">: </span>${count(number)}${waiting.more ? "+" : ""}<span class="visually-hidden"> waiting</span></span>` : null;
}
