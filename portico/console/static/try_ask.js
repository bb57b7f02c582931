// TryAsk: a place to try what an agent can be asked, with a form made from its contract. What comes back is shown as it came.
import { Attempt, WAYS } from "./attempt.js";
import { useContract } from "./contracts.js";
import { CopyButton } from "./copy.js";
import { curl } from "./curl.js";
import { Form } from "./form.js";
import { bytes, duration, plural } from "./format.js";
import { useGateway } from "./gateway.js";
import { html, useEffect, useState } from "./html.js";
import { Json } from "./json_view.js";
import { useObservable } from "./observable.js";
import { href } from "./router.js";
import { LongText, short } from "./text.js";
import { Timeline } from "./timeline.js";

/** `agent`: its name · `operations`: as `GET /agents/{name}` lists them. */
export function TryAsk({ agent, operations }) {
  const [name, setName] = useState(operations[0].name);
  const operation = operations.find((one) => one.name === name) ?? operations[0];
  return html`<section aria-labelledby="try-title">
    <h3 id="try-title">Try it</h3>
    ${operations.length > 1 &&
    html`<label class="field"><span>Operation</span>
      <select value=${operation.name} onChange=${(event) => setName(event.target.value)}>
        ${operations.map((one) => html`<option value=${one.name} selected=${one.name === operation.name}>${short(one.name, 60)}</option>`)}
      </select>
    </label>`}
    <${Operation} key=${`${agent}/${operation.path}`} operation=${operation} />
  </section>`;
}

function Operation({ operation }) {
  const gateway = useGateway();
  const contract = useContract(operation.path);
  const [way, setWay] = useState("wait");
  const [attempt, setAttempt] = useState(null);
  const [value, setValue] = useState(undefined);
  const busy = useObservable(attempt ?? IDLE, (one) => one.state === "running");
  useEffect(() => () => attempt?.stop(), [attempt]);
  if (contract === undefined) return html`<p class="muted" role="status">Reading its contract …</p>`;
  const ask = (payload) => setAttempt(new Attempt(gateway.api, operation.path.replace(/^\//, ""), payload, way));
  const line = () => {
    const { Accept, ...more } = WAYS[way].headers;
    const headers = { Accept: Accept.split(",")[0], ...gateway.session.headers, "Content-Type": "application/json", ...more };
    return curl("POST", gateway.api.url(operation.path), headers, JSON.stringify(value ?? contract?.example ?? null));
  };
  return html`<div class="try">
    <label class="field"><span>How</span>
      <select value=${way} onChange=${(event) => setWay(event.target.value)}>
        ${Object.entries(WAYS).map(([key, { word }]) => html`<option value=${key} selected=${key === way}>${word}</option>`)}
      </select>
    </label>
    <${Form} id="try" schema=${contract?.schema ?? {}} root=${contract?.root} value=${contract?.example} submit=${way === "async" ? "Start" : "Ask"}
      busy=${busy} faults=${attempt?.problem?.errors ?? NONE} onSubmit=${ask} onValue=${setValue}>
      ${busy && html`<button type="button" class="button" onClick=${() => attempt.stop()}>Stop waiting</button>`}
      <${CopyButton} label="Copy as a curl command" text=${line} />
    <//>
    ${attempt && html`<${Outcome} attempt=${attempt} />`}
  </div>`;
}

const IDLE = { version: 0, state: "idle", subscribe: () => () => {} };
const NONE = [];

function Outcome({ attempt }) {
  useObservable(attempt);
  const { state, answer, problem, story, took } = attempt;
  const facts = answer && { life: answer.headers.get("agent-incarnation"), attempt: answer.headers.get("agent-attempt"), request: answer.headers.get("x-request-id") };
  return html`<div class="outcome" role="group" aria-label="What came of it">
    <p role="status">
      ${state === "running" ? "Asking …" : html`<strong>${state === "given-up" ? "Given up" : problem ? `${problem.title || "Failed"}${problem.status ? ` (${problem.status})` : ""}` : `Answered (${answer.status})`}</strong> after <span class="number">${duration(took / 1000)}</span>`}
      ${facts?.life && html`<span class="muted"> · by life ${facts.life}${Number(facts.attempt) > 0 ? `, delivered ${plural(Number(facts.attempt), "time")} before` : ""}</span>`}
      ${attempt.runId && html` · <a href=${href(["runs", attempt.runId])}>its run</a>`}
    </p>
    ${problem && html`<p class="complaint">${short(problem.message, 1000)}${problem.requestId && html`<br /><small>Request ${short(problem.requestId, 80)}</small>`}</p>`}
    ${story && html`<${Timeline} story=${story} />`}
    ${answer && !story && state === "done" && html`<${Reply} answer=${answer} />`}
  </div>`;
}

function Reply({ answer }) {
  if (answer.value !== undefined) return html`<${Json} value=${answer.value} label="the reply" />`;
  if (answer.text !== undefined) return html`<${LongText} value=${answer.text} file="reply.txt" label="The reply" />`;
  if (!answer.size) return html`<p class="muted">The reply is empty.</p>`;
  return html`<p>${bytes(answer.size)} of ${short(answer.kind || "unknown kind", 80)}. <button type="button" class="link" onClick=${() => save(answer.blob)}>Download</button></p>`;
}

function save(blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "reply";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
