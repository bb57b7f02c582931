// DayChart: amounts by day as bars, drawn by uPlot; the same numbers stand in a table beside it, so it is a picture for those who see.
import { html, useEffect, useRef } from "./html.js";
import { useObservable } from "./observable.js";
import { useGateway } from "./gateway.js";
import uPlot from "./vendor/uplot.js";

const HEIGHT = 180;
const DAY = 86_400;

/** `days`: `YYYY-MM-DD`, in order · `values`: numbers, null for what is not known · `label` · `text(value)`: as people read it. */
export function DayChart({ days, values, label, text }) {
  const { theme } = useGateway();
  useObservable(theme);
  const box = useRef(null);
  useEffect(() => {
    const style = getComputedStyle(box.current);
    const ink = resolved(box.current, "--muted");
    const line = resolved(box.current, "--line");
    const accent = resolved(box.current, "--accent");
    const font = `12px ${style.fontFamily}`;
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    const options = {
      width: Math.max(200, box.current.clientWidth),
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: true, range: (_, low, high) => [low - DAY / 2, high + DAY / 2] }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
      axes: [
        { ...axis, grid: { show: false }, space: 70, values: (_, splits) => splits.map((at) => (at % DAY ? "" : new Date(at * 1000).toISOString().slice(5, 10))) },
        { ...axis, size: 64, values: (_, splits) => splits.map((value) => text(value)) },
      ],
      series: [{}, { stroke: accent, fill: accent, width: 0, paths: uPlot.paths.bars({ size: [0.7, 48] }), points: { show: false } }],
    };
    const plot = new uPlot(options, [days.map((day) => Date.parse(`${day}T00:00:00Z`) / 1000), values], box.current);
    const watcher = new ResizeObserver(() => plot.setSize({ width: Math.max(200, box.current.clientWidth), height: HEIGHT }));
    watcher.observe(box.current);
    return () => {
      watcher.disconnect();
      plot.destroy();
    };
  }, [days.join(), values.join(), theme.dark, label]);
  return html`<div class="day-chart" ref=${box} role="img" aria-label=${label}></div>`;
}

/** A custom property as a colour that a canvas takes: `light-dark()` is none. */
function resolved(element, name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}
