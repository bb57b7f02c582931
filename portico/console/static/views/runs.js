// Runs: all of them, the newest first, by filters that stand in the address. New ones come on top; what is in sight stays in sight.
import { href } from "../router.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { ago, count, duration, instant } from "../format.js";
import { Status } from "../icon.js";
import { Empty, ListFoot, Trouble } from "../list_state.js";
import { useTick } from "../tick.js";
import { Cost } from "../cost.js";
import { useObservable } from "../observable.js";
import { RunList, STATUSES, took } from "../run_list.js";
import { short } from "../text.js";
import { filterOf, refine } from "../filters.js";
import { useGateway } from "../gateway.js";
import { Typed } from "../typed.js";
import { ViewHead } from "../view_head.js";
import { RunView } from "./run.js";
import { useNarrow } from "../narrow.js";
import { VirtualList } from "../virtual_list.js";

const ROW = 36;
const NARROW_ROW = 62;
const FILTERS = ["status", "agent", "principal", "id"];

export function RunsView({ route }) {
  return route.path[1] ? html`<${RunView} key=${route.path[1]} id=${route.path[1]} />` : html`<${AllRuns} route=${route} />`;
}

function AllRuns({ route }) {
  const gateway = useGateway();
  const filter = filterOf(route, FILTERS);
  const key = JSON.stringify(filter);
  const list = useMemo(() => new RunList(gateway.api, gateway.stream), [gateway]);
  useObservable(list);
  useEffect(() => () => list.close(), [list]);
  useEffect(() => void list.show(filter), [list, key]);
  const change = (name, value) => refine(gateway.router, { [name]: value });

  return html`<div class="view">
    <${ViewHead} title="Runs"><${Filters} filter=${filter} onChange=${change} onClear=${() => gateway.router.go(href(["runs"]), { replace: true })} /><//>
    <div class="view-body">
      <${Statuses} chosen=${filter.status ?? ""} onChange=${change} />
      ${list.state === "failed" && html`<${Trouble} problem=${list.problem} what="Runs" onAgain=${() => list.again()} />`}
      ${!(list.state === "failed" && !list.rows.length) && html`<${RunTable} list=${list} filtered=${key !== "{}"} /><${ListFoot} list=${list} one="run" many="runs" />`}
    </div>
  </div>`;
}

function Statuses({ chosen, onChange }) {
  const { figures } = useGateway();
  useObservable(figures);
  const counts = figures.last?.runs ?? {};
  return html`<div class="picks" role="group" aria-label="Status">
    ${["", ...STATUSES].map(
      (status) => html`<button type="button" key=${status} class="pick" aria-pressed=${chosen === status ? "true" : "false"} onClick=${() => onChange("status", status)}>
        ${status ? html`<${Status} status=${status} />` : "All"}${status && counts[status] ? html`<span class="tabular muted">${count(counts[status])}</span>` : ""}
      </button>`,
    )}
  </div>`;
}

function Filters({ filter, onChange, onClear }) {
  return html`<div class="filters" role="search" aria-label="Filter runs">
    <${Typed} label="Agent" name="agent" value=${filter.agent} onChange=${onChange} />
    <${Typed} label="Principal" name="principal" value=${filter.principal} onChange=${onChange} />
    <${Typed} label="Run id" name="id" value=${filter.id} onChange=${onChange} />
    ${Object.keys(filter).length > 0 && html`<button type="button" class="button quiet" onClick=${onClear}>Clear</button>`}
  </div>`;
}

/** `list`: a RunList. */
export function RunTable({ list, filtered = false, label = "Runs", id = "runs" }) {
  const gateway = useGateway();
  useTick(true, 5000);
  const now = gateway.clock.now();
  const narrow = useNarrow();
  const [active, setActive] = useState("");
  const index = active ? list.rows.findIndex((run) => run.run_id === active) : -1;
  const columns = html`
    <span role="columnheader" class="cell-status">Status</span>
    <span role="columnheader" class="cell-agent">Agent</span>
    <span role="columnheader" class="cell-id">Run</span>
    <span role="columnheader" class="cell-who">Principal</span>
    <span role="columnheader" class="cell-number">Began</span>
    <span role="columnheader" class="cell-number">Took</span>
    <span role="columnheader" class="cell-number cell-attempts">Attempts</span>
    <span role="columnheader" class="cell-number cell-cost">Cost</span>`;
  const empty =
    list.state === "loading"
      ? html`<p class="muted">Loading …</p>`
      : filtered
        ? html`<${Empty} title="No run is like that">Change the filters, or clear them.<//>`
        : html`<${Empty} title="No runs yet">Stored calls appear here: sends, POST /runs, asks with Prefer or a key.<//>`;
  return html`<${VirtualList}
    id=${id}
    label=${label}
    count=${list.rows.length}
    rowHeight=${narrow ? NARROW_ROW : ROW}
    columns=${narrow ? null : columns}
    row=${(at) => ({ key: list.rows[at].run_id, attributes: { "data-run": list.rows[at].run_id }, cells: html`<${Row} run=${list.rows[at]} now=${now} />` })}
    active=${index}
    onActive=${(at) => setActive(list.rows[at]?.run_id ?? "")}
    onOpen=${(at) => list.rows[at] && gateway.router.go(href(["runs", list.rows[at].run_id]))}
    onNearEnd=${() => list.more()}
    anchor=${list.added}
    empty=${empty}
  />`;
}

function Row({ run, now }) {
  return html`
    <span role="gridcell" class="cell-status"><${Status} status=${run.status} /></span>
    <span role="gridcell" class="cell-agent"><bdi class="strong">${short(run.agent, 60)}</bdi>${run.operation && run.operation !== run.agent ? html` <bdi class="muted">${short(run.operation, 60)}</bdi>` : ""}</span>
    <span role="gridcell" class="cell-id"><a href=${href(["runs", run.run_id])} tabindex="-1"><code>${short(run.run_id, 24)}</code></a></span>
    <span role="gridcell" class="cell-who muted"><bdi>${run.principal === null ? "" : short(run.principal, 40)}</bdi></span>
    <span role="gridcell" class="cell-number" title=${instant(run.created_at)}>${ago(run.created_at, now)}</span>
    <span role="gridcell" class="cell-number">${duration(took(run, now))}</span>
    <span role="gridcell" class="cell-number cell-attempts">${run.attempts > 1 ? html`<span class="warn-text">${count(run.attempts)} attempts</span>` : ""}</span>
    <span role="gridcell" class="cell-number cell-cost"><${Cost} usage=${run.usage} /></span>`;
}
