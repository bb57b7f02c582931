// Answer: what a run waits for, and the form to give it. Questions for a person, an address to visit, or what a program would answer.
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { path } from "./api.js";
import { instant } from "./format.js";
import { Form } from "./form.js";
import { Json } from "./json_view.js";
import { visible } from "./text.js";
import { useGateway } from "./gateway.js";

/**
 * What tells one wait of a run from the next: the key of an `Answer`, whose form begins anew with it. Two questions that are alike in
 * everything have the same: a record names neither its wait nor how often it has waited (`last_event_id` may come after the wait).
 */
export function waitOf(run) {
  return JSON.stringify([run.attempts, run.waiting_for]);
}

/** `run`: a run's record that waits for an input · `onAnswered(run)`: it is given, or was given by somebody else (`null`). */
export function Answer({ run, onAnswered }) {
  const gateway = useGateway();
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const waits = run.waiting_for;
  const schema = useMemo(() => asked(waits), [JSON.stringify(waits)]);
  const several = waits.questions ?? null;
  // An answer may be taken so late that another question stands here by then: that one is not answered.
  const here = useRef(true);
  useEffect(() => () => (here.current = false), []);
  const told = (after) => here.current && onAnswered(after);

  const give = async (value) => {
    setBusy(true);
    setProblem(null);
    try {
      const after = await gateway.api.post(`${path("runs", run.run_id)}/input`, value);
      gateway.announcer.tell("The answer is given.", "good");
      told(after);
    } catch (error) {
      setProblem(error);
      if (error.slug === "not-waiting") told(null);
    } finally {
      setBusy(false);
    }
  };

  return html`<div class="answer">
    ${!several && html`<p class="answer-prompt">${visible(waits.prompt ?? "", { lines: true })}</p>`}
    ${!several && html`<${Whom} asks=${waits.asks} params=${waits.params} />`}
    ${several && Object.entries(several).map(([name, question]) => html`<${Whom} key=${name} asks=${question.asks} params=${question.params} name=${name} />`)}
    ${waits.until && html`<p class="muted">It waits until ${instant(waits.until)}.</p>`}
    ${problem && problem.errors.length === 0 && html`<div class="complaint" role="alert"><p>${refusal(problem)}</p></div>`}
    <${Form} id=${`answer-${run.run_id}`} schema=${schema} submit="Answer" busy=${busy} faults=${problem?.errors ?? []} onSubmit=${give} />
  </div>`;
}

function refusal(problem) {
  if (problem.slug === "not-waiting") return "It was answered before, or has ended: this answer was not taken.";
  return visible(problem.message);
}

/** The schema of the answer; of several questions, each with its prompt. */
function asked(waits) {
  const schema = waits.schema ?? {};
  if (!waits.questions) return { title: "Answer", ...schema };
  const properties = Object.fromEntries(
    Object.entries(waits.questions).map(([name, question]) => {
      const one = schema.properties?.[name] ?? question.schema ?? {};
      return [name, { ...one, title: question.prompt || name }];
    }),
  );
  return { ...schema, properties };
}

/** Whom a question is for, where that is not somebody who fills something in. */
function Whom({ asks, params, name = "" }) {
  const of = name ? `${name}: ` : "";
  if (asks === "visit") {
    const address = String(params?.url ?? "");
    const safe = /^https?:\/\//i.test(address);
    return html`<p>${visible(of)}Open ${safe ? html`<a href=${address} target="_blank" rel="noopener noreferrer">${visible(address)}</a>` : html`<code>${visible(address)}</code>`}, and say when it is done.</p>`;
  }
  if (asks === "sample") {
    return html`<details class="folded"><summary>${visible(of)}A model would write the next message of this chat.</summary><${Json} value=${params ?? null} label="chat" /></details>`;
  }
  if (asks === "roots") return html`<p class="muted">${visible(of)}The caller's program would tell in which folders it works.</p>`;
  return null;
}
