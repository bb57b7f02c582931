// Audit: who did what to which agent, when, with what outcome. The newest first; filters stand in the address.
import { html, useEffect, useMemo, useState } from "../html.js";
import { ago, duration, instant } from "../format.js";
import { filterOf, refine } from "../filters.js";
import { useGateway } from "../gateway.js";
import { Json } from "../json_view.js";
import { Icon } from "../icon.js";
import { Empty, ListFoot, Trouble } from "../list_state.js";
import { useNarrow } from "../narrow.js";
import { useObservable } from "../observable.js";
import { Pages } from "../pages.js";
import { href } from "../router.js";
import { short } from "../text.js";
import { useTick } from "../tick.js";
import { Typed } from "../typed.js";
import { ViewHead } from "../view_head.js";
import { VirtualList } from "../virtual_list.js";

const ROW = 36;
const NARROW_ROW = 62;
const FILTERS = ["agent", "principal", "action"];
const ACTIONS = ["agent.suspend", "agent.resume", "agent.restart", "agent.drain", "agent.state_read", "run.cancel", "run.answer", "run.redeliver_callback", "dead_letter.redrive", "key.added", "key.removed", "access.refused", "gateway.started", "gateway.stopped", "call", "message"];

export function AuditView({ route }) {
  const gateway = useGateway();
  const filter = filterOf(route, FILTERS);
  const key = JSON.stringify(filter);
  const list = useMemo(() => new Pages(gateway.api, { path: "audit", member: "entries", key: "seq" }), [gateway]);
  useObservable(list);
  useEffect(() => void list.open(filter), [list, key]);
  useEffect(() => () => list.close(), [list]); // it does not look by itself: each look is an entry
  const [active, setActive] = useState(0);
  const entry = list.known.get(active) ?? null;
  return html`<div class="view">
    <${ViewHead} title="Audit">
      ${FILTERS.map((name) => html`<${Typed} key=${name} label=${name[0].toUpperCase() + name.slice(1)} name=${name} value=${filter[name]} options=${name === "action" ? ACTIONS : null} onChange=${(one, value) => refine(gateway.router, { [one]: value })} />`)}
      <button type="button" class="button" onClick=${() => list.reload()}>Refresh</button>
    <//>
    <div class=${`split ${entry ? "open" : ""}`}>
      <div class="list">
        ${list.state === "failed" && html`<${Off} list=${list} />`}
        ${!(list.state === "failed" && !list.rows.length) && html`<${Entries} list=${list} active=${active} onActive=${setActive} filtered=${key !== "{}"} /><${ListFoot} list=${list} one="entry" many="entries" />`}
      </div>
      ${entry && html`<${Entry} entry=${entry} onClose=${() => setActive(0)} />`}
    </div>
  </div>`;
}

function Off({ list }) {
  const { session } = useGateway();
  useObservable(session);
  if (list.problem.status === 404 && session.admin === false) return html`<${Empty} title="The audit trail is not shown here">Refused: ${session.why}.<//>`;
  if (list.problem.status === 404) return html`<${Empty} title="Nothing is audited here">This gateway keeps no audit trail: see the topology's <code>audit</code> section.<//>`;
  return html`<${Trouble} problem=${list.problem} what="The audit trail" onAgain=${() => list.again()} />`;
}

function Entries({ list, active, onActive, filtered }) {
  const gateway = useGateway();
  const narrow = useNarrow();
  useTick(true, 5000);
  const now = gateway.clock.now();
  const columns = html`
    <span role="columnheader" class="cell-number cell-when">When</span>
    <span role="columnheader" class="cell-action">Action</span>
    <span role="columnheader" class="cell-agent">Agent</span>
    <span role="columnheader" class="cell-who">By</span>
    <span role="columnheader" class="cell-outcome">Outcome</span>`;
  const row = (at) => {
    const one = list.rows[at];
    const good = one.outcome === "ok" || one.outcome === "accepted";
    const cells = html`
      <span role="gridcell" class="cell-number cell-when" title=${instant(one.at)}>${ago(one.at, now)}</span>
      <span role="gridcell" class="cell-action"><code>${short(one.action, 60)}</code></span>
      <span role="gridcell" class="cell-agent"><bdi>${short(one.agent ?? "", 60)}</bdi></span>
      <span role="gridcell" class="cell-who"><bdi>${short(one.principal ?? one.address ?? "", 60)}</bdi></span>
      <span role="gridcell" class="cell-outcome">${good ? short(one.outcome, 40) : html`<span class="bad-text"><${Icon} name="failed" size=${13} /> ${short(one.outcome, 40)}</span>`}</span>`;
    return { key: one.seq, attributes: {}, cells };
  };
  const empty = list.state === "loading" ? html`<p class="muted">Loading …</p>` : html`<${Empty} title=${filtered ? "No entry is like that" : "No entries yet"}>Actions, answers, cancellations and refusals appear here.<//>`;
  return html`<div class="virtual-box audit"><${VirtualList}
    id="audit"
    label="Audit trail"
    count=${list.rows.length}
    rowHeight=${narrow ? NARROW_ROW : ROW}
    columns=${narrow ? null : columns}
    row=${row}
    active=${active ? list.rows.findIndex((one) => one.seq === active) : -1}
    onActive=${(at) => onActive(list.rows[at]?.seq ?? 0)}
    onNearEnd=${() => list.more()}
    anchor=${list.added}
    empty=${empty}
  /></div>`;
}

function Entry({ entry, onClose }) {
  const fact = (name, value) => value !== null && value !== undefined && value !== "" && html`<div><dt>${name}</dt><dd>${value}</dd></div>`;
  const code = (text) => (text ? html`<code class="break">${short(text, 200)}</code>` : null);
  const took = Number.isFinite(entry.duration_us) ? duration(entry.duration_us / 1e6) : null;
  return html`<aside class="panel" aria-label="The entry">
    <div class="panel-head"><div class="panel-title"><h2><code>${short(entry.action, 80)}</code></h2>
      <button type="button" class="icon-button" aria-label="Close details" onClick=${onClose}><${Icon} name="close" /></button></div></div>
    <section><dl class="facts">
      ${fact("Number", entry.seq)}${fact("When", instant(entry.at))}${fact("Outcome", code(entry.outcome))}
      ${fact("By", entry.principal && short(entry.principal, 200))}${fact("Address", code(entry.address))}${fact("Through", entry.face)}
      ${fact("Agent", entry.agent && html`<a href=${href(["tree", entry.agent])}><bdi>${short(entry.agent, 120)}</bdi></a>`)}
      ${fact("Operation", entry.operation && short(entry.operation, 120))}
      ${fact("Run", entry.run_id && html`<a href=${href(["runs", entry.run_id])}>${code(entry.run_id)}</a>`)}
      ${fact("Request", code(entry.request_id))}${fact("Trace", code(entry.trace_id))}${fact("Took", took)}
      ${fact("Hash", code(entry.hash))}${fact("Before it", code(entry.prev))}
    </dl></section>
    ${entry.details && Object.keys(entry.details).length > 0 && html`<section><h3>Details</h3><${Json} value=${entry.details} label="details" /></section>`}
  </aside>`;
}
