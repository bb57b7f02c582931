// TreeView: the supervision tree, live, and beside it the process that is chosen.
import { AgentPanel } from "../agent_panel.js";
import { count, measure, plural } from "../format.js";
import { useGateway } from "../gateway.js";
import { html, useEffect, useMemo, useState } from "../html.js";
import { Icon, Status } from "../icon.js";
import { useObservable } from "../observable.js";
import { href } from "../router.js";
import { Name, short } from "../text.js";
import { STATUSES, shownStatus } from "../tree.js";
import { ViewHead } from "../view_head.js";
import { VirtualList } from "../virtual_list.js";

const ROW = 38;

export function TreeView({ route }) {
  const gateway = useGateway();
  const { tree, router } = gateway;
  useObservable(tree);
  const [folded, setFolded] = useState(() => new Set());
  const text = route.query.get("q") ?? "";
  const status = route.query.get("status") ?? "";
  const chosen = route.path[1] ?? null;
  // With a filter by status, a step of one process may bring a row or take it away.
  const rows = useMemo(() => visibleRows(tree.roots, folded, text, status), [tree.roots, tree.shape, folded, text, status, status && tree.version]);
  const [activeKey, setActiveKey] = useState(chosen);
  const active = rows.findIndex((node) => node.key === activeKey);
  const open = (name) => router.go(href(name === null ? ["tree"] : ["tree", name], { q: text, status }));
  const filter = (more) => router.go(href(chosen ? ["tree", chosen] : ["tree"], { q: text, status, ...more }), { replace: true });
  const fold = (node, shut) => setFolded((before) => (shut ? new Set(before).add(node.key) : without(before, node.key)));
  useEffect(() => chosen && setActiveKey(chosen), [chosen]);

  const press = (event, index, step) => {
    const node = rows[index];
    if (!node) return false;
    if (event.key === "ArrowRight") {
      if (node.children?.length && folded.has(node.key)) fold(node, false);
      else if (node.children?.length) step(index + 1);
    } else if (event.key === "ArrowLeft") {
      if (node.children?.length && !folded.has(node.key)) fold(node, true);
      else if (node.parent) step(rows.indexOf(node.parent));
    } else if (event.key === " ") open(node.name);
    else if (event.key === "Escape" && chosen) open(null);
    else return false;
    return true;
  };
  const selected = chosen === null ? null : tree.byName.get(chosen);
  return html`<div class="view">
    <${ViewHead} title="Tree">
      <label class="search"><span class="visually-hidden">Filter by name</span><${Icon} name="search" />
        <input type="search" placeholder="Filter by name" value=${text} onInput=${(event) => filter({ q: event.target.value })} />
      </label>
      <label><span class="visually-hidden">Status</span>
        <select value=${status} onChange=${(event) => filter({ status: event.target.value })}>
          <option value="" selected=${status === ""}>Any status</option>
          ${STATUSES.map((one) => html`<option value=${one} selected=${one === status}>${one}</option>`)}
        </select>
      </label>
      <span class="muted number" aria-live="off">${tree.roots.length > 0 && plural(tree.byName.size, "node")}</span>
    <//>
    <div class=${`split ${chosen === null ? "" : "open"}`}>
      <div class="list">
        ${body(tree, () => html`<div class="tree virtual-box"><${VirtualList}
          id="tree"
          label="Supervision tree"
          role="treegrid"
          count=${rows.length}
          rowHeight=${ROW}
          columns=${COLUMNS}
          active=${active}
          onActive=${(index) => setActiveKey(rows[index].key)}
          onOpen=${(index) => open(rows[index].name)}
          onKey=${press}
          empty=${html`<div class="empty"><strong>Nothing matches</strong><button type="button" class="link" onClick=${() => filter({ q: "", status: "" })}>Show everything</button></div>`}
          row=${(index) => treeRow(rows[index], folded, fold, Boolean(text || status))}
        /></div>`)}
      </div>
      ${chosen !== null && html`<${AgentPanel} key=${chosen} name=${chosen} node=${selected} onClose=${() => open(null)} />`}
    </div>
  </div>`;
}

function body(tree, list) {
  if (tree.roots.length) return list();
  if (tree.state === "failed")
    return html`<div class="empty"><strong>The tree cannot be read</strong><p>${tree.problem.message}</p><button type="button" class="button" onClick=${() => tree.read()}>Try again</button></div>`;
  return html`<div class="card skeleton" role="status" aria-label="Reading the tree">${[1, 2, 3, 4, 5, 6].map(() => html`<i></i>`)}</div>`;
}

const COLUMNS = html`
  <div role="columnheader">Name</div>
  <div role="columnheader">State</div>
  <div role="columnheader" class="number">Queue</div>
  <div role="columnheader" class="number medium">In flight</div>
  <div role="columnheader" class="number wide">Life</div>
  <div role="columnheader" class="number wide">Restarts/min</div>
`;

function treeRow(node, folded, fold, filtered) {
  const parent = Boolean(node.children?.length);
  const shut = parent && folded.has(node.key);
  const depth = node.mailbox?.depth;
  const twist = (event) => {
    event.stopPropagation();
    fold(node, !shut);
  };
  return {
    key: node.key,
    attributes: {
      "aria-level": node.level,
      "aria-setsize": node.siblings,
      "aria-posinset": node.position + 1,
      "aria-expanded": parent ? (shut ? "false" : "true") : undefined,
    },
    cells: html`
      <div role="gridcell" class="tree-name" style=${{ paddingLeft: `${(node.level - 1) * 18}px` }}>
        <span class="twist" onClick=${parent && !filtered ? twist : undefined} aria-hidden="true">${parent && html`<${Icon} name=${shut ? "shut" : "open"} size=${14} />`}</span>
        <span class=${node.children ? "sup" : ""}><${Name} value=${node.name} /></span>
        <span class="muted"><small>${kindWord(node)}</small></span>
        ${node.lastCrash && html`<span class="crash-mark" title="How it crashed the last time"><${Icon} name="failed" size=${13} /><span class="visually-hidden">has crashed: </span><small>${short(String(node.lastCrash.type ?? ""), 40)}</small></span>`}
      </div>
      <div role="gridcell"><${Status} status=${shownStatus(node)} label=${statusWord(node)} /></div>
      <div role="gridcell" class=${`number ${depth > 0 && depth >= (node.mailbox?.size ?? Infinity) / 2 ? "hot" : ""}`}>${depth === undefined ? "" : count(depth)}</div>
      <div role="gridcell" class="number medium">${node.in_flight === undefined || node.in_flight === null ? "" : count(Number(node.in_flight))}</div>
      <div role="gridcell" class="number wide">${node.incarnation === undefined ? "" : count(node.incarnation)}</div>
      <div role="gridcell" class=${`number wide ${node.restarts_per_minute > 0 ? "hot" : ""}`}>${node.restarts_per_minute === undefined ? "" : measure(node.restarts_per_minute)}</div>
    `,
  };
}

const KINDS = { sup: "", dyn: "dynamic", pool: "pool", keyed: "per key", agent: "", srv: "server", mcp: "MCP" };

function kindWord(node) {
  const word = KINDS[node.kind] ?? node.kind;
  return [word, node.strategy ?? "", node.keys === undefined ? "" : plural(node.keys, "key")].filter(Boolean).join(" · ");
}

/** Of a supervisor: how many of those below it are in the worst of their states. */
function statusWord(node) {
  const status = shownStatus(node);
  if (node.status || !(node.tally?.[status] > 0)) return undefined;
  const all = Object.values(node.tally).reduce((sum, number) => sum + number, 0);
  return status === "running" ? `all ${count(all)} running` : `${count(node.tally[status])} ${status}`;
}

/** The rows in their order. A filter shows what matches, and what is above it. */
function visibleRows(roots, folded, text, status) {
  const rows = [];
  if (!text && !status) {
    const walk = (node) => {
      rows.push(node);
      if (node.children && !folded.has(node.key)) node.children.forEach(walk);
    };
    roots.forEach(walk);
    return rows;
  }
  const wanted = text.toLowerCase();
  const walk = (node) => {
    const at = rows.length;
    rows.push(node);
    let found = node.name.toLowerCase().includes(wanted) && (!status || shownStatus(node) === status);
    for (const child of node.children ?? []) found = walk(child) || found;
    if (!found) rows.length = at;
    return found;
  };
  roots.forEach(walk);
  return rows;
}

function without(set, one) {
  const copy = new Set(set);
  copy.delete(one);
  return copy;
}
