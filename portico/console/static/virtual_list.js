// VirtualList: a list or tree of any length of which only the rows in sight exist. The focus stays on the list; its active row is told by
// `aria-activedescendant`, so that no update takes the focus away. Fixed row height.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./html.js";

/** Rows beyond the edges. */
const MORE = 8;

/**
 * Props:
 * `id`: unique on the page · `label` · `role`: "grid" or "treegrid" · `count` · `rowHeight`: pixels · `columns`: a row of html`` for the
 * head, in `role=columnheader` cells · `row(index)` → `{key, attributes, cells}` · `active`: an index, -1 for none · `onActive(index)`:
 * by keyboard or pointer · `onOpen(index)`: Enter or a click · `onKey(event, index)` → whether it was seen to · `onNearEnd()`: the
 * last rows are in sight · `empty`: shown where there are none · `anchor`: how many rows were added on top since ever, so that what is
 * in sight stays there.
 */
export function VirtualList(props) {
  const { id, label, role = "grid", count, rowHeight, columns, row, active = -1, onActive, onOpen, onKey, onNearEnd, empty, anchor = 0 } = props;
  const box = useRef(null);
  const head = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const anchored = useRef(anchor);

  const look = () => {
    const { scrollTop, clientHeight } = box.current;
    setView((before) => (before.top === scrollTop && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight }));
  };
  useEffect(() => {
    const watcher = new ResizeObserver(look);
    watcher.observe(box.current);
    return () => watcher.disconnect();
  }, []);

  useLayoutEffect(() => {
    const added = anchor - anchored.current;
    anchored.current = anchor;
    if (added > 0 && box.current.scrollTop > 0) box.current.scrollTop += added * rowHeight;
  }, [anchor]);

  // Where rows went away the browser moves what is in sight, and tells with the next frame.
  const first = Math.max(0, Math.min(Math.floor(view.top / rowHeight) - MORE, count - 1));
  const last = Math.min(count, Math.ceil((view.top + view.height) / rowHeight) + MORE);
  useEffect(() => {
    if (count && last >= count - MORE) onNearEnd?.();
  }, [last, count]);

  const show = (index) => {
    const top = index * rowHeight;
    const space = box.current.clientHeight - (head.current?.offsetHeight ?? 0);
    if (top < box.current.scrollTop) box.current.scrollTop = top;
    else if (top + rowHeight > box.current.scrollTop + space) box.current.scrollTop = top + rowHeight - space;
  };
  const step = (to) => {
    const index = Math.max(0, Math.min(count - 1, to));
    onActive?.(index);
    show(index);
  };
  const press = (event) => {
    if (event.target !== box.current || event.ctrlKey || event.metaKey || event.altKey || !count) return;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 2);
    const at = Math.max(active, 0);
    const moves = { ArrowDown: active + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: count - 1 };
    if (event.key in moves) step(moves[event.key]);
    else if (event.key === "Enter" && active >= 0) onOpen?.(active);
    else if (!onKey?.(event, active, step)) return;
    event.preventDefault();
  };

  const shown = [];
  const put = (index) => {
    const { key, attributes, cells } = row(index);
    shown.push(html`<div
      key=${key}
      id=${`${id}-${index}`}
      role="row"
      aria-rowindex=${index + (columns ? 2 : 1)}
      aria-selected=${index === active ? "true" : "false"}
      class=${`row ${index === active ? "active" : ""}`}
      style=${{ top: `${index * rowHeight}px`, height: `${rowHeight}px` }}
      onClick=${() => {
        onActive?.(index);
        onOpen?.(index);
      }}
      ...${attributes}
    >${cells}</div>`);
  };
  if (active >= 0 && active < first) put(active);
  for (let index = first; index < last; index++) put(index);
  if (active >= last && active < count) put(active);

  return html`<div
    ref=${box}
    id=${id}
    class="virtual"
    role=${role}
    tabindex="0"
    aria-label=${label}
    aria-rowcount=${count + (columns ? 1 : 0)}
    aria-activedescendant=${active >= 0 && active < count ? `${id}-${active}` : undefined}
    onScroll=${look}
    onKeyDown=${press}
  >
    ${columns && html`<div ref=${head} class="row head" role="row" aria-rowindex="1">${columns}</div>`}
    <div class="virtual-rows" role="rowgroup" style=${{ height: `${count * rowHeight}px` }}>${shown}</div>
    ${!count && empty ? html`<div role="row" class="virtual-empty"><div role="gridcell">${empty}</div></div>` : null}
  </div>`;
}
