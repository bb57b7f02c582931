// TrafficView: what goes through the gateway: calls, latencies, what is in hand, how punctual the loop is. Plots, and the same as a table.
import { WINDOW } from "../figures.js";
import { count, measure, plural } from "../format.js";
import { useGateway } from "../gateway.js";
import { html } from "../html.js";
import { useObservable } from "../observable.js";
import { Plot } from "../plot.js";
import { ViewHead } from "../view_head.js";
import { NewsList } from "../news_list.js";

const ROWS = [
  ["admitted", "Calls admitted", "/s"],
  ["ok", "Calls done", "/s"],
  ["failed", "Calls failed", "/s"],
  ["rejected", "Calls rejected", "/s"],
  ["inFlight", "In flight", ""],
  ["p50", "Latency p50", "ms"],
  ["p95", "Latency p95", "ms"],
  ["p99", "Latency p99", "ms"],
  ["lag", "Loop lag", "ms"],
];

/** What the plots call the columns that have no word of their own for a name. */
const SAID = { ok: "done", inFlight: "in flight" };

export function TrafficView() {
  const { figures, stream } = useGateway();
  useObservable(figures);
  useObservable(stream);
  const last = figures.last;
  if (!last)
    return html`<div class="view"><${ViewHead} title="Traffic" /><div class="view-body">
      <div class="card empty"><strong>No figures yet</strong><p>${stream.state === "refused" ? "They come with the stream of events, which needs the scope admin." : "They come once a second, while this page is live."}</p></div>
    </div></div>`;
  const { columns, times, version } = figures;
  const line = (name, column, colour, dash, unit) => ({ name, values: columns[column], colour, dash, unit });
  const common = { times, version, span: span(times) };
  const runs = last.runs ?? {};
  return html`<div class="view">
    <${ViewHead} title="Traffic"><span class="muted">The last ten minutes, since this page was opened</span><//>
    <div class="view-body">
      <dl class="tiles">
        <${Tile} name="Calls" value=${count(last.calls?.admitted)} unit="/s" />
        <${Tile} name="Failed" value=${count(last.calls?.failed)} unit="/s" />
        <${Tile} name="In flight" value=${count(last.calls?.in_flight)} />
        <${Tile} name="Latency p95" value=${measure(last.latency_ms?.p95 ?? Number.NaN)} unit="ms" />
        <${Tile} name="Loop lag" value=${measure(last.loop_lag_ms ?? Number.NaN)} unit="ms" />
        <${Tile} name="Runs open" value=${count(open(runs))} />
        <${Tile} name="Dead letters" value=${count(last.dead_letters)} />
        <${Tile} name="Open streams" value=${count(last.streams)} />
      </dl>
      <div class="plots">
        <${Plot} ...${common} whole title="Calls per second" summary=${summary(figures, "Calls per second", ["ok", "failed", "rejected"])}
          lines=${[line("done", "ok", "--good"), line("failed", "failed", "--bad", "dashed"), line("rejected", "rejected", "--warn", "dotted")]} />
        <${Plot} ...${common} title="Latency" summary=${summary(figures, "Latency in milliseconds", ["p50", "p95", "p99"])}
          lines=${[line("p50", "p50", "--info", "solid", "ms"), line("p95", "p95", "--accent", "dashed", "ms"), line("p99", "p99", "--warn", "dotted", "ms")]} />
        <${Plot} ...${common} whole title="Calls in flight" summary=${summary(figures, "Calls in flight", ["inFlight"])} lines=${[line("in flight", "inFlight", "--info")]} />
        <${Plot} ...${common} title="Loop lag" summary=${summary(figures, "Loop lag in milliseconds", ["lag"])} lines=${[line("lag", "lag", "--warn", "solid", "ms")]} />
      </div>
      <details class="card"><summary>The same as a table</summary><${Table} figures=${figures} /></details>
      <section class="card" aria-labelledby="news-title"><h2 id="news-title">What happened</h2><${NewsList} /></section>
    </div>
  </div>`;
}

/** How many seconds the plots show: as many as there are, in a few steps, so that the first minutes are no scrawl at the edge. */
function span(times) {
  const elapsed = (times.at(-1) ?? 0) - (times[0] ?? 0);
  return [120, 300].find((seconds) => elapsed < seconds) ?? WINDOW;
}

function Tile({ name, value, unit }) {
  return html`<div class="tile"><dt>${name}</dt><dd>${value}${unit && value !== "–" && html` <small>${unit}</small>`}</dd></div>`;
}

function open(runs) {
  return Object.entries(runs).reduce((sum, [status, number]) => sum + (["accepted", "queued", "running", "waiting"].includes(status) ? number : 0), 0);
}

function summary(figures, title, names) {
  const said = names.map((name) => `${SAID[name] ?? name} ${measure(figures.mean(name, 60) ?? Number.NaN)} on average and ${measure(figures.greatest(name, 60) ?? Number.NaN)} at most`);
  return `${title}, of the last minute: ${said.join("; ")}. ${plural(figures.times.length, "reading")}.`;
}

function Table({ figures }) {
  const cell = (value) => html`<td class="number">${measure(value ?? Number.NaN)}</td>`;
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Figures as a table"><table>
    <thead><tr><th scope="col">Figure</th><th scope="col" class="number">Now</th><th scope="col" class="number">Mean, 1 min</th><th scope="col" class="number">Mean, 10 min</th><th scope="col" class="number">Most, 10 min</th></tr></thead>
    <tbody>${ROWS.map(
      ([column, name, unit]) => html`<tr key=${column}><th scope="row">${name} ${unit && html`<small>${unit}</small>`}</th>
        ${cell(figures.columns[column].at(-1))}${cell(figures.mean(column, 60))}${cell(figures.mean(column, WINDOW))}${cell(figures.greatest(column, WINDOW))}</tr>`,
    )}</tbody>
  </table></div>`;
}
