// Plot: lines over time, drawn by uPlot. What they say is in words and in a table too; a line has a dash of its own besides its colour.
import { clockTime, measure } from "./format.js";
import { useGateway } from "./gateway.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { useObservable } from "./observable.js";
import uPlot from "./vendor/uplot.js";

const HEIGHT = 190;
/** Steps between the marks of an axis without fractions. */
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6];
const DASHES = { solid: [], dashed: [6, 4], dotted: [2, 3] };

/**
 * Props: `title` · `summary`: what the picture says, in words · `times`: seconds since the epoch · `lines`: `{name, values, colour
 * (a custom property of the style), dash, unit}` each · `version`: rises when the values have changed · `span`: seconds to show, at least ·
 * `whole`: there are no fractions.
 */
export function Plot({ title, summary, times, lines, version, span = 0, whole = false }) {
  const { theme } = useGateway();
  const themed = useObservable(theme);
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);

  useEffect(() => {
    const style = getComputedStyle(place.current);
    const colour = (name) => resolved(style.getPropertyValue(name), place.current);
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const made = new uPlot(
      {
        width: Math.max(120, place.current.clientWidth),
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { size: 6 }, y: false },
        scales: {
          x: { time: true, range: (_, least, most) => (most ? [Math.min(least, most - span), most] : [0, 1]) },
          y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : whole ? 4 : 1] },
        },
        axes: [
          { ...axis, size: 30, space: 70, values: (_, ticks) => ticks.map((tick) => clockTime(tick).slice(0, 5)), incrs: [60, 120, 300, 600, 3600] },
          { ...axis, size: 48, space: 34, incrs: whole ? WHOLE : undefined, values: (_, ticks) => ticks.map((tick) => measure(tick)) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.name,
            stroke: colour(line.colour),
            width: 1.6,
            dash: DASHES[line.dash ?? "solid"],
            spanGaps: false,
            points: { show: false, filter: (self, at) => alone(self.data[at]), size: 4, width: 0, fill: colour(line.colour) },
          })),
        ],
        hooks: { setCursor: [(self) => setAt(self.cursor.idx ?? null)] },
      },
      data(times, lines),
      place.current,
    );
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: Math.max(120, place.current.clientWidth), height: HEIGHT }));
    watcher.observe(place.current);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [themed, lines.length, span]);

  useEffect(() => plot.current?.setData(data(times, lines)), [version]);

  const shown = at !== null && at < times.length ? at : times.length - 1;
  return html`<figure class="card plot">
    <h2>${title} <small>${at === null || !times.length ? "" : clockTime(times[shown])}</small></h2>
    <div class="plot-box" ref=${place} role="img" aria-label=${summary}></div>
    <ul class="legend">
      ${lines.map(
        (line) => html`<li key=${line.name}>
          <${Sample} line=${line} /><span>${line.name}</span>
          <strong class="number">${measure(line.values[shown] ?? Number.NaN)}${line.unit ? ` ${line.unit}` : ""}</strong>
        </li>`,
      )}
    </ul>
  </figure>`;
}

function Sample({ line }) {
  const dash = DASHES[line.dash ?? "solid"].join(" ");
  return html`<svg width="22" height="8" aria-hidden="true"><line x1="0" y1="4" x2="22" y2="4" stroke-width="2" stroke-dasharray=${dash || "none"} style=${{ stroke: `var(${line.colour})` }} /></svg>`;
}

function data(times, lines) {
  return [times, ...lines.map((line) => line.values)];
}

/** Where values stand that have none beside them: a line leads to none of these, so a point has to show them. Null where none is. */
function alone(values) {
  const missing = (value) => value === null || value === undefined;
  const found = [];
  for (let at = 0; at < values.length; at++)
    if (!missing(values[at]) && missing(values[at - 1]) && missing(values[at + 1])) found.push(at);
  return found.length ? found : null;
}

/** A colour as a canvas takes it: `light-dark()` is for style sheets alone. */
function resolved(value, near) {
  const probe = document.createElement("i");
  probe.style.color = value;
  near.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
