// Run: the story of one run, as it happens: what it was asked, what it has done, what it waits for, how it ended; with its children.
import { href } from "../router.js";
import { path } from "../api.js";
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { Answer, waitOf } from "../answer.js";
import { CopyButton } from "../copy.js";
import { ago, count, dollars, duration, instant, plural } from "../format.js";
import { Status } from "../icon.js";
import { Json, Long } from "../json_view.js";
import { Empty, Trouble } from "../list_state.js";
import { useTick } from "../tick.js";
import { Cost } from "../cost.js";
import { useObservable } from "../observable.js";
import { Paced } from "../paced.js";
import { ENDS, RunList, took } from "../run_list.js";
import { RunStream } from "../run_stream.js";
import { Name, short, visible } from "../text.js";
import { Progress, Timeline } from "../timeline.js";
import { useGateway } from "../gateway.js";

/** Milliseconds between two readings of the record, while much happens. */
const PACE = 300;
/** With these problems a run becomes a dead letter. */
const DEAD = new Set(["agent-crashed", "agent-failed", "interrupted", "agent-not-found"]);
/** How deep children are nested. */
const DEEPEST = 6;

/** `id`: the run's. */
export function RunView({ id }) {
  const gateway = useGateway();
  const { run, problem, read, put } = useRecord(id);
  const stream = useMemo(() => new RunStream(gateway.api, id), [gateway, id]);
  useObservable(stream);
  useEffect(() => {
    for (const kind of ["run", "model"]) stream.on(kind, read);
    stream.open();
    return () => stream.close();
  }, [stream]);
  useTick(Boolean(run) && !ENDS.has(run.status));
  const now = gateway.clock.now();
  const title = useRef(null);
  useEffect(() => title.current?.focus({ preventScroll: true }), [run === null]);

  if (!run) {
    if (problem?.status === 404) {
      return html`<div class="view"><${Back} /><${Empty} title="There is no such run">It never was, has been removed, or belongs to somebody else: <code>${short(id, 130)}</code><//></div>`;
    }
    return html`<div class="view"><${Back} /><div class="view-body">${problem ? html`<${Trouble} problem=${problem} what="This run" onAgain=${read} />` : html`<p class="muted">Loading …</p>`}</div></div>`;
  }
  return html`<div class="view view-run">
    <${Back} />
    <div class="view-head run-head">
      <h1 id="run-title" tabindex="-1" ref=${title}><bdi>${short(run.agent, 80)}</bdi>${run.operation !== run.agent ? html`<span class="muted"> · <bdi>${short(run.operation, 80)}</bdi></span>` : ""}</h1>
      <${Status} status=${run.status} />
      <div class="head-actions"><${Cancel} run=${run} onDone=${put} /></div>
    </div>
    <div class="view-body">
    ${problem && html`<div class="note"><p>What stands here may be old: ${visible(problem.message)}</p></div>`}
    <${Facts} run=${run} now=${now} story=${stream.story} />
    ${run.waiting_for?.kind === "input" && html`<section class="card waiting-card" aria-labelledby="answer-title"><h2 id="answer-title">Waits for an answer</h2><${Answer} key=${waitOf(run)} run=${run} onAnswered=${(after) => (after ? put(after) : read())} /></section>`}
    ${run.error && html`<${Failure} run=${run} />`}
    ${stream.story.progress && !ENDS.has(run.status) && html`<${Progress} about=${stream.story.progress} />`}
    <div class="run-columns">
      <section class="run-story" aria-labelledby="story-title">
        <h2 id="story-title">Story <${Following} stream=${stream} /></h2>
        <${Timeline} story=${stream.story} tail=${html`<${Tail} stream=${stream} run=${run} now=${now} />`} />
      </section>
      <aside class="run-data" aria-label="Data of the run">
        <${Data} title="Input" value=${run.input} />
        ${run.status === "succeeded" && html`<${Data} title="Output" value=${run.output} />`}
        ${Object.keys(run.metadata ?? {}).length > 0 && html`<${Data} title="Metadata" value=${run.metadata} />`}
        ${run.summary && html`<${Data} title="Summary" value=${run.summary} />`}
        ${run.callback && html`<${Data} title="Callback" value=${run.callback} />`}
        <${Children} id=${id} depth=${0} />
      </aside>
    </div>
    </div>
  </div>`;
}

function Failure({ run }) {
  const dead = run.status === "failed" && DEAD.has(run.error.slug);
  return html`<div class="complaint">
    <p><strong>${visible(run.error.slug)}</strong> <${Long} text=${run.error.detail} cut=${1000} lines /></p>
    ${dead && html`<p><a href=${href(["dead-letters"], { agent: run.agent })}>Dead letters of <${Name} value=${run.agent} limit=${60} /></a> – it can be sent again from there.</p>`}
  </div>`;
}

/** The record, read anew when something has happened. */
function useRecord(id) {
  const gateway = useGateway();
  const [run, setRun] = useState(null);
  const [problem, setProblem] = useState(null);
  const looks = useMemo(() => {
    const look = async (stands) => {
      try {
        const found = await gateway.api.get(path("runs", id));
        if (!stands()) return;
        setRun(found);
        setProblem(null);
      } catch (error) {
        if (stands()) setProblem(error);
      }
    };
    return new Paced(look, PACE);
  }, [gateway, id]);
  const read = () => looks.soon();
  useEffect(() => {
    read();
    const ends = [
      gateway.stream.on("run", (data) => data.run_id === id && read()),
      gateway.stream.on("hello", read),
      gateway.stream.on("gap", read),
      gateway.stream.on("blind", read),
    ];
    return () => {
      looks.stop();
      for (const end of ends) end();
    };
  }, [looks]);
  // An answer to a request may come later than what a look has found since: so it is looked once more.
  const put = (after) => {
    setRun(after);
    read();
  };
  return { run, problem, read, put };
}

function Back() {
  const { router } = useGateway();
  const before = router.before?.path[0] === "runs" && !router.before.path[1] ? Object.fromEntries(router.before.query) : {};
  return html`<nav class="back" aria-label="Way back"><a href=${href(["runs"], before)}>← Runs</a></nav>`;
}

function Facts({ run, now, story }) {
  const link = (name, address, text) => html`<div><dt>${name}</dt><dd><a href=${address}>${text}</a></dd></div>`;
  const fact = (name, value) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  const trace = run.trace_id ?? run.traceparent?.split("-")[1];
  const usage = run.usage ?? null;
  return html`<dl class="facts">
    ${fact("Run", html`<code class="break">${short(run.run_id, 130)}</code> <${CopyButton} label="Copy the run's id" text=${() => run.run_id} />`)}
    ${run.parent_id && link("Sent by", href(["runs", run.parent_id]), html`<code>${short(run.parent_id, 40)}</code>`)}
    ${link("Agent", href(["tree", run.agent]), html`<bdi>${short(run.agent, 80)}</bdi>`)}
    ${"principal" in run && fact("Principal", run.principal === null ? html`<span class="muted">nobody named</span>` : html`<bdi>${short(run.principal, 80)}</bdi>`)}
    ${fact("Accepted", html`<time datetime=${run.created_at} title=${instant(run.created_at)}>${ago(run.created_at, now)}</time>`)}
    ${run.due_at && fact("Due", html`<time datetime=${run.due_at}>${instant(run.due_at)}</time>`)}
    ${run.finished_at && fact("Ended", html`<time datetime=${run.finished_at}>${instant(run.finished_at)}</time>`)}
    ${fact(run.finished_at ? "Took" : "Takes so far", duration(took(run, now)))}
    ${fact("Attempts", html`<span class=${run.attempts > 1 ? "warn-text" : ""}>${count(run.attempts)}</span>${story.restarts ? html` <span class="warn-text">began again ${plural(story.restarts, "time")}</span>` : ""}`)}
    ${run.waiting_for?.kind === "sleep" && fact("Sleeps until", instant(run.waiting_for.until))}
    ${usage?.calls ? fact("Model calls", html`${count(usage.calls)} · ${count(usage.tokens_in)} → ${count(usage.tokens_out)} tokens`) : story.cost.calls ? fact("Model calls", html`${count(story.cost.calls)} · ${count(story.cost.tokens_in)} → ${count(story.cost.tokens_out)} tokens`) : ""}
    ${usage?.calls ? fact("Cost", html`<${Cost} usage=${usage} />`) : story.cost.calls ? fact("Cost", html`${dollars(story.cost.usd)}${story.cost.unpriced ? ` + ${plural(story.cost.unpriced, "call")} without a price` : ""}`) : ""}
    ${!run.stored && fact("Stored", html`no: it is only remembered, as a plain ask`)}
    ${trace && fact("Trace", html`<code class="break">${short(trace, 40)}</code> <${CopyButton} label="Copy the trace's id" text=${() => trace} />`)}
  </dl>`;
}

const FOLLOWING = { connecting: "connecting …", live: "live", waiting: "connection lost; trying again …", paused: "paused", refused: "not allowed" };

function Following({ stream }) {
  const said = FOLLOWING[stream.about];
  return said ? html`<span class=${`following ${stream.about}`} role="status">${said}</span>` : null;
}

function Tail({ stream, run, now }) {
  if (stream.about === "gone") return html`<p class="muted">Its events are kept no more.</p>`;
  if (stream.about === "refused") return html`<p class="muted">Its events may not be read with this key.</p>`;
  if (!stream.story.items.length) return html`<p class="muted">${run.status === "queued" ? "It is queued: nothing has happened yet." : "Nothing has been told yet."}</p>`;
  if (ENDS.has(run.status) || stream.story.ended) return null;
  return html`<p class="muted timeline-now">${run.status === "waiting" ? "It waits" : "It goes on"} · ${duration(took(run, now))}</p>`;
}

function Data({ title, value }) {
  return html`<section class="card"><h2>${title}</h2><${Json} value=${value} label=${title.toLowerCase()} /></section>`;
}

function Cancel({ run, onDone }) {
  const gateway = useGateway();
  const [busy, setBusy] = useState(false);
  if (ENDS.has(run.status)) return null;
  const cancel = async () => {
    const sure = await gateway.dialogs.confirm({
      title: "Cancel this run?",
      text: html`<p>The handler of <bdi>${short(run.agent, 80)}</bdi> and what it waits for are cancelled. Nothing of the handling is kept but its steps.</p>`,
      action: "Cancel the run",
      danger: true,
    });
    if (!sure) return;
    setBusy(true);
    const after = await gateway.act(gateway.api.post(`${path("runs", run.run_id)}/cancel`), (one) => (one.status === "cancelled" ? "The run is cancelled." : `The run has ended: ${one.status}.`));
    setBusy(false);
    if (after) onDone(after);
  };
  return html`<button type="button" class="button" disabled=${busy} onClick=${cancel}>Cancel run</button>`;
}

/** The runs that a run's handler has sent, and theirs. */
function Children({ id, depth }) {
  const gateway = useGateway();
  const list = useMemo(() => new RunList(gateway.api, gateway.stream), [gateway]);
  useObservable(list);
  useEffect(() => {
    list.show({ parent: id });
    return () => list.close();
  }, [list, id]);
  useTick(true, 5000);
  const now = gateway.clock.now();
  if (!list.rows.length) return depth ? html`<p class="muted">${list.state === "loading" ? "Loading …" : "It has sent nothing."}</p>` : null;
  const rows = html`<ul class="children">
    ${list.rows.map((run) => html`<li key=${run.run_id}><${Child} run=${run} now=${now} depth=${depth} /></li>`)}
    ${!list.complete && html`<li><button type="button" class="button quiet" onClick=${() => list.more()}>Show more</button></li>`}
  </ul>`;
  return depth ? rows : html`<section class="card"><h2>Sent from here</h2>${rows}</section>`;
}

function Child({ run, now, depth }) {
  const [open, setOpen] = useState(false);
  const line = html`<${Status} status=${run.status} /> <a href=${href(["runs", run.run_id])}><bdi>${short(run.agent, 60)}</bdi></a> <span class="muted">${duration(took(run, now))}</span>`;
  if (depth >= DEEPEST) return html`<div class="child">${line}</div>`;
  return html`<div class="child">${line}
    <details class="folded" open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>what it has sent</summary>${open && html`<${Children} id=${run.run_id} depth=${depth + 1} />`}</details>
  </div>`;
}
