// Usage: what model calls took, by day and by agent, model or principal. What has no price is said, and never taken for nothing.
import { html, useEffect, useMemo, useState } from "../html.js";
import { Cost } from "../cost.js";
import { DayChart } from "../day_chart.js";
import { count, dollars, measure, plural } from "../format.js";
import { filterOf, refine } from "../filters.js";
import { useGateway } from "../gateway.js";
import { Empty, Trouble } from "../list_state.js";
import { href } from "../router.js";
import { Name } from "../text.js";
import { Typed } from "../typed.js";
import { ViewHead } from "../view_head.js";

const SPANS = [7, 30, 90];
const GROUPS = ["agent", "model", "principal", "run"];
const DAY = 86_400_000;
const FILTERS = ["agent", "principal", "run"];

export function UsageView({ route }) {
  const gateway = useGateway();
  const { query } = route;
  const span = SPANS.includes(Number(query.get("days"))) ? Number(query.get("days")) : 30;
  const by = GROUPS.includes(query.get("by")) ? query.get("by") : "agent";
  const filter = filterOf(route, FILTERS);
  const go = (changes) => refine(gateway.router, changes);
  const [beat, setBeat] = useState(0);
  const { usage, problem } = useUsage(gateway, { span, by, filter, beat });

  return html`<div class="view">
    <${ViewHead} title="Usage">
      ${FILTERS.map((name) => html`<${Typed} key=${name} label=${name === "run" ? "Run id" : name[0].toUpperCase() + name.slice(1)} name=${name} value=${filter[name]} onChange=${(one, value) => go({ [one]: value })} />`)}
      <div class="picks" role="group" aria-label="How far back">
        ${SPANS.map((days) => html`<button type="button" class="pick" key=${days} aria-pressed=${days === span ? "true" : "false"} onClick=${() => go({ days })}>${days} days</button>`)}
      </div>
      <button type="button" class="button" onClick=${() => setBeat(beat + 1)}>Refresh</button>
    <//>
    <div class="view-body">
      ${problem && html`<${Trouble} problem=${problem} what="Usage" onAgain=${() => setBeat(beat + 1)} />`}
      ${!usage && !problem && html`<p class="muted">Loading …</p>`}
      ${usage && !usage.total.calls && html`<${Empty} title="No model was called in this time">What ModelAgents and tools spend appears here, as soon as they call a model.<//>`}
      ${usage && usage.total.calls > 0 && html`<${Total} total=${usage.total} /><${ByDay} days=${usage.days} /><${Table} rows=${usage.rows} truncated=${usage.truncated} by=${by} onBy=${(name) => go({ by: name })} />`}
    </div>
  </div>`;
}

function useUsage(gateway, { span, by, filter, beat }) {
  const [state, setState] = useState({ usage: null, problem: null });
  const key = JSON.stringify([span, by, filter, beat]);
  useEffect(() => {
    const control = new AbortController();
    const since = new Date(gateway.clock.now() - (span - 1) * DAY).toISOString().slice(0, 10);
    const read = (one) => gateway.api.get(`usage?${new URLSearchParams({ by: one, since, ...filter })}`, { signal: control.signal });
    Promise.all([read("day"), read(by)]).then(
      ([days, groups]) => setState({ usage: { days: filled(days.rows, since, span), rows: groups.rows, total: groups.total, truncated: groups.truncated }, problem: null }),
      (problem) => control.signal.aborted || setState((before) => ({ ...before, problem })),
    );
    return () => control.abort();
  }, [key]);
  return state;
}

/** A row for each day, also for those on which nothing was called. */
function filled(rows, since, span) {
  const known = new Map(rows.map((row) => [row.day, row]));
  return Array.from({ length: span }, (_, at) => {
    const day = new Date(Date.parse(since) + at * DAY).toISOString().slice(0, 10);
    return known.get(day) ?? { day, calls: 0, tokens_in: 0, tokens_out: 0, cost_usd: 0, unpriced_calls: 0, unknown_calls: 0 };
  });
}

function Total({ total }) {
  const tile = (name, value, small) => html`<div class="tile"><dt>${name}</dt><dd>${value}${small && html` <small>${small}</small>`}</dd></div>`;
  return html`<dl class="tiles">
      ${tile("Cost", total.unpriced_calls >= total.calls ? "not known" : dollars(total.cost_usd), total.unpriced_calls ? "at least" : "")}
      ${tile("Model calls", count(total.calls))}
      ${tile("Tokens read", count(total.tokens_in))}
      ${tile("Tokens written", count(total.tokens_out))}
    </dl>
    ${total.unpriced_calls > 0 && html`<p class="note"><strong>${plural(total.unpriced_calls, "call")} without a price.</strong> Their money is missing in the sums: give their models a price in the topology's <code>prices</code>.</p>`}
    ${total.unknown_calls > 0 && html`<p class="note"><strong>${plural(total.unknown_calls, "call")} without a token count.</strong> Their provider did not say how many tokens they took.</p>`}`;
}

function ByDay({ days }) {
  const priced = days.some((day) => day.cost_usd > 0);
  const [shows, setShows] = useState(priced ? "cost" : "tokens");
  // Of a day on which nothing is known there is no bar: one of nothing would say that it took nothing.
  const values = useMemo(() => days.map((day) => (shows === "cost" ? day.cost_usd : day.tokens_in === null ? null : day.tokens_in + day.tokens_out)), [days, shows]);
  const text = shows === "cost" ? (value) => (value === 0 ? "$0" : dollars(value)) : (value) => (value >= 1e6 ? `${measure(value / 1e6)} M` : value >= 1000 ? `${measure(value / 1000)} k` : measure(value));
  const best = days.reduce((most, day, at) => (values[at] > values[most] ? at : most), 0);
  const unknown = values.filter((value) => value === null).length;
  const most = [values[best] > 0 && `most on ${days[best].day}: ${text(values[best])}`, unknown > 0 && `not known of ${plural(unknown, "day")}`].filter(Boolean).join("; ") || "nothing";
  return html`<section class="card" aria-labelledby="by-day">
    <div class="card-head"><h2 id="by-day">By day <small>UTC</small></h2>
      <div class="picks" role="group" aria-label="What the bars show">
        <button type="button" class="pick" aria-pressed=${shows === "cost" ? "true" : "false"} onClick=${() => setShows("cost")}>Cost</button>
        <button type="button" class="pick" aria-pressed=${shows === "tokens" ? "true" : "false"} onClick=${() => setShows("tokens")}>Tokens</button>
      </div>
    </div>
    <${DayChart} days=${days.map((day) => day.day)} values=${values} text=${text} label=${`${shows === "cost" ? "Cost" : "Tokens"} by day; ${most}`} />
    <details class="folded"><summary>The same as a table</summary>
      <div class="table-box"><table><thead><tr><th scope="col">Day</th><${Heads} /></tr></thead>
        <tbody>${days.filter((day) => day.calls).toReversed().map((day) => html`<tr key=${day.day}><th scope="row">${day.day}</th><${Cells} row=${day} /></tr>`)}</tbody></table></div>
    </details>
  </section>`;
}

function Heads() {
  return ["Cost", "Calls", "Tokens read", "Tokens written", "Without a price"].map((name) => html`<th scope="col" class="number" key=${name}>${name}</th>`);
}

function Cells({ row }) {
  return html`<td class="number"><${Cost} usage=${row} /></td><td class="number">${count(row.calls)}</td><td class="number">${count(row.tokens_in)}</td><td class="number">${count(row.tokens_out)}</td><td class="number">${row.unpriced_calls ? html`<span class="warn-text">${count(row.unpriced_calls)}</span>` : "–"}</td>`;
}

function Table({ rows, truncated, by, onBy }) {
  const titles = { agent: "Agent", model: "Model", principal: "Principal", run: "Run" };
  return html`<section class="card" aria-labelledby="by-group">
    <div class="card-head"><h2 id="by-group">By ${by}</h2>
      <div class="picks" role="group" aria-label="Sum up by">${GROUPS.map((one) => html`<button type="button" class="pick" key=${one} aria-pressed=${one === by ? "true" : "false"} onClick=${() => onBy(one)}>${titles[one]}</button>`)}</div>
    </div>
    <div class="table-box" tabindex="0" role="region" aria-label=${`Usage by ${by}`}><table>
      <thead><tr><th scope="col">${titles[by]}</th><${Heads} /></tr></thead>
      <tbody>${rows.map((row, at) => html`<tr key=${at}><th scope="row"><${Key} by=${by} value=${row[by] ?? row.run_id} /></th><${Cells} row=${row} /></tr>`)}</tbody>
    </table></div>
    ${truncated && html`<p class="muted">The first ${count(rows.length)} alone: there are more, which a filter or fewer days bring into sight.</p>`}
  </section>`;
}

function Key({ by, value }) {
  if (value === null || value === undefined || value === "") return html`<span class="muted">${by === "principal" ? "nobody named" : by === "run" ? "outside any run" : "–"}</span>`;
  if (by === "run") return html`<a href=${href(["runs", value])}><code><${Name} value=${value} limit=${40} /></code></a>`;
  if (by === "agent") return html`<a href=${href(["tree", value])}><${Name} value=${value} limit=${60} /></a>`;
  return html`<${Name} value=${value} limit=${60} />`;
}
