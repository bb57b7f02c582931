// Upstreams: the external MCP servers whose tools the agents call: connected or not, what they do, why they fail.
import { html, useEffect, useState } from "../html.js";
import { path } from "../api.js";
import { count, duration, plural } from "../format.js";
import { useGateway } from "../gateway.js";
import { Status } from "../icon.js";
import { Empty, Trouble } from "../list_state.js";
import { useObservable } from "../observable.js";
import { href } from "../router.js";
import { LongText, Name, short } from "../text.js";
import { ViewHead } from "../view_head.js";

/** Milliseconds between two looks, while the view is open. */
const PACE = 4_000;
/** How many tools are named before somebody wants all. */
const TOOLS = 12;

export function UpstreamsView() {
  const gateway = useGateway();
  const { tree, session } = gateway;
  useObservable(tree);
  useObservable(session);
  const nodes = [...tree.byName.values()].filter((node) => typeof node.connection === "string");
  const names = nodes.map((node) => node.name).join("\n");
  useEffect(() => {
    let open = true;
    let timer = 0;
    const look = async () => {
      const wanted = document.hidden || !names ? [] : names.split("\n");
      // Those that cannot be read one by one are read with the tree.
      const found = await Promise.allSettled(wanted.map((name) => gateway.api.get(path("agents", name))));
      if (!open) return;
      for (const one of found) if (one.status === "fulfilled") tree.update(one.value);
      if (found.some((one) => one.status === "rejected")) tree.readSoon();
      timer = setTimeout(look, PACE);
    };
    look();
    return () => {
      open = false;
      clearTimeout(timer);
    };
  }, [names]);

  return html`<div class="view">
    <${ViewHead} title="MCP upstreams" />
    <div class="view-body">
      ${tree.state === "failed" && html`<${Trouble} problem=${tree.problem} what="The tree" onAgain=${() => tree.read()} />`}
      ${tree.state === "reading" && html`<p class="muted">Loading …</p>`}
      ${tree.state === "read" && !nodes.length && html`<${Empty} title="No MCP upstreams">External servers of the topology's <code>mcp_servers</code> appear here.<//>`}
      ${nodes.length > 0 && html`<ul class="cards">${nodes.map((node) => html`<li key=${node.name}><${Upstream} node=${node} /></li>`)}</ul>`}
    </div>
  </div>`;
}

const WORDS = { connected: "succeeded", connecting: "starting", resting: "waiting", disconnected: "failed" };

function Upstream({ node }) {
  const gateway = useGateway();
  const [busy, setBusy] = useState(false);
  const titled = `upstream-${encodeURIComponent(node.name)}`;
  const reconnect = async () => {
    const sure = await gateway.dialogs.confirm({
      title: html`Reconnect <${Name} value=${node.name} limit=${80} />?`,
      text: "The connection is closed and opened again. Calls in flight end with an error, for nobody knows whether they took effect.",
      action: "Reconnect",
      danger: true,
    });
    if (!sure) return;
    setBusy(true);
    const shown = await gateway.act(gateway.api.post(path("agents", node.name, "restart")), `${short(node.name, 80)} is connecting anew.`);
    if (shown) gateway.tree.update(shown);
    setBusy(false);
  };
  const suspended = node.status === "suspended";
  const status = suspended ? "suspended" : node.status === "restarting" || node.status === "failed" ? node.status : (WORDS[node.connection] ?? (node.ready ? "succeeded" : "waiting"));
  const label = suspended ? "suspended" : node.ready ? "connected" : String(node.connection ?? "").replaceAll("_", " ");
  const fact = (name, value) => html`<div><dt>${name}</dt><dd class="tabular">${value}</dd></div>`;
  return html`<article class="card" aria-labelledby=${titled}>
    <div class="card-head">
      <h2 id=${titled}><a href=${href(["tree", node.name])}><${Name} value=${node.name} limit=${80} /></a></h2>
      <${Status} status=${status} label=${label} />
      ${node.required && html`<span class="tag" title="The gateway is not ready without it">required</span>`}
      <button type="button" class="button" disabled=${busy || !gateway.mayAct} onClick=${reconnect}>${busy ? "Reconnecting …" : "Reconnect"}</button>
    </div>
    <dl class="figures">
      ${fact("In flight", count(node.calls?.in_flight))}
      ${fact("Waiting", count(node.calls?.waiting))}
      ${fact("Reconnects", count(node.reconnects))}
      ${fact("Tools", count(node.tools?.length))}
      ${node.era && fact("Protocol", short(node.era, 40))}
      ${Number.isFinite(node.retry_in) && fact("Next attempt", `in ${duration(node.retry_in)}`)}
    </dl>
    ${node.error && html`<div class="complaint"><${LongText} value=${node.error} limit=${600} file="error.txt" label=${`Why ${short(node.name, 60)} is not connected`} /></div>`}
    ${node.tools?.length > 0 && html`<${Tools} names=${node.tools} />`}
    ${node.refused && Object.keys(node.refused).length > 0 && html`<div class="note"><p>${plural(Object.keys(node.refused).length, "tool")} not offered to agents:</p>
      <ul class="plain">${Object.entries(node.refused).map(([name, why]) => html`<li key=${name}><code>${short(name, 100)}</code> – ${short(why, 300)}</li>`)}</ul></div>`}
  </article>`;
}

function Tools({ names }) {
  const [all, setAll] = useState(false);
  const shown = all ? names : names.slice(0, TOOLS);
  return html`<p class="tags">${shown.map((name) => html`<code class="tag" key=${name}>${short(name, 80)}</code>`)}
    ${names.length > TOOLS && html`<button type="button" class="link" aria-expanded=${all ? "true" : "false"} onClick=${() => setAll(!all)}>${all ? "Fewer" : `All ${count(names.length)}`}</button>`}
  </p>`;
}
