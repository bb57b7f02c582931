// AgentPanel: everything about one process or supervisor, and what can be done with it.
import { ago, count, instant, measure } from "./format.js";
import { path } from "./api.js";
import { useGateway } from "./gateway.js";
import { html, useEffect, useState } from "./html.js";
import { Icon, Status } from "./icon.js";
import { useObservable } from "./observable.js";
import { NewsList } from "./news_list.js";
import { href } from "./router.js";
import { LongText, Name, short } from "./text.js";
import { useTick } from "./tick.js";
import { shownStatus } from "./tree.js";
import { TryAsk } from "./try_ask.js";

/** Milliseconds after an event of the process before it is looked at again. */
const SETTLE = 400;

export function AgentPanel({ name, node, onClose }) {
  const gateway = useGateway();
  const { api, tree, stream, session } = gateway;
  useObservable(session);
  const [detail, setDetail] = useState(null);
  const [problem, setProblem] = useState(null);

  useEffect(() => {
    const control = new AbortController();
    let timer = 0;
    const look = async () => {
      timer = 0;
      try {
        const raw = await api.get(path("agents", name), { signal: control.signal });
        setDetail(raw);
        setProblem(null);
        tree.update(raw);
      } catch (error) {
        if (!control.signal.aborted) setProblem(error);
      }
    };
    look();
    const soon = (data) => data.name === name && !timer && (timer = setTimeout(look, SETTLE));
    const ends = [stream.on("process", soon), stream.on("hello", look)];
    return () => {
      control.abort();
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, [name]);

  if (!node && tree.state === "read" && problem)
    return html`<aside class="panel" aria-label="Details"><${PanelHead} name=${name} onClose=${onClose} /><div class="empty"><strong>Not there (any more)</strong><p>${short(problem.message, 300)}</p></div></aside>`;
  const about = node ?? detail ?? {}; // both have the same members, and the node those that are told meanwhile
  const crash = { ...(detail?.last_crash ?? {}), ...(node?.lastCrash ?? {}) };
  return html`<aside class="panel" aria-label=${`Details of ${short(name, 80)}`}>
    <${PanelHead} name=${name} onClose=${onClose}>
      <div><${Status} status=${shownStatus(about)} /> ${about.reason && html`<span class="muted">– ${short(about.reason, 200)}</span>`}</div>
      ${(about.status ?? about.intake) && html`<${Actions} name=${name} about=${about} />`}
    <//>
    ${problem && node && problem.status !== 404 && html`<section><p class="complaint">${short(problem.message, 300)}</p></section>`}
    ${crash.at !== undefined && html`<${Crash} name=${name} crash=${crash} whole=${detail?.last_crash} />`}
    <${Facts} about=${about} />
    ${about.operations?.length > 0 && html`<${TryAsk} agent=${name} operations=${about.operations} />`}
    ${about.children?.length > 0 && html`<${Children} nodes=${about.children} />`}
    <${Lately} name=${name} />
  </aside>`;
}

function PanelHead({ name, onClose, children }) {
  return html`<div class="panel-head">
    <div class="panel-title"><h2><${Name} value=${name} limit=${300} /></h2>
      <button type="button" class="icon-button" aria-label="Close details" onClick=${onClose}><${Icon} name="close" /></button>
    </div>
    ${children}
  </div>`;
}

const ACTIONS = {
  suspend: { word: "Suspend", done: "is suspended", reason: true, text: "It takes no messages until it is resumed. What waits for it keeps waiting; new calls are refused." },
  resume: { word: "Resume", done: "takes messages again", text: "It takes messages again, beginning with what waits." },
  restart: { word: "Restart", done: "was restarted", danger: true, text: "A fresh instance takes over its mailbox. What is in hand ends as it does after a crash, or is finished first." },
  drain: { word: "Drain", done: "is being drained", reason: true, text: "New calls are refused, what waits is handled, then it stays suspended until it is resumed." },
};

function Actions({ name, about }) {
  const gateway = useGateway();
  const [busy, setBusy] = useState("");
  const can = about.intake === "suspended" || about.intake === "draining" || about.status === "suspended" ? ["resume", "restart"] : ["suspend", "drain", "restart"];
  const act = async (action) => {
    const { word, text, danger, reason, done } = ACTIONS[action];
    const answer = await gateway.dialogs.confirm({ title: html`${word} <${Name} value=${name} limit=${80} />?`, text, action: word, danger, reason });
    if (!answer) return;
    setBusy(action);
    const body = reason && answer.reason ? { reason: answer.reason } : {};
    const shown = await gateway.act(gateway.api.post(path("agents", name, action), body), `${short(name, 80)} ${done}.`);
    if (shown) gateway.tree.update(shown);
    setBusy("");
  };
  return html`<div class="actions" role="group" aria-label="Actions">
    ${can.map(
      (action) => html`<button key=${action} type="button" class="button" disabled=${!gateway.mayAct || busy !== ""} aria-describedby=${gateway.mayAct ? undefined : "no-admin"} onClick=${() => act(action)}>
        ${busy === action ? `${ACTIONS[action].word} …` : ACTIONS[action].word}
      </button>`,
    )}
    ${!gateway.mayAct && html`<small id="no-admin">Actions are refused: ${gateway.session.why}.</small>`}
  </div>`;
}

function Crash({ name, crash, whole }) {
  const { clock } = useGateway();
  useTick(true, 5000);
  const trace = whole && (crash.incarnation === undefined || whole.incarnation === crash.incarnation) ? whole.traceback : crash.traceback;
  return html`<section aria-labelledby="crash-title">
    <h3 id="crash-title">Last crash · <time title=${instant(crash.at)}>${ago(crash.at, clock.now())}</time></h3>
    <div class="complaint"><strong class="mono">${short(crash.type ?? "", 120)}</strong>${crash.message !== undefined && html`<${LongText} value=${crash.message} limit=${600} file="message.txt" label="Message" />`}</div>
    <dl class="facts">
      ${fact("In life", count(crash.incarnation))}${fact("At delivery", count(crash.attempt))}
    </dl>
    ${trace && html`<details><summary>Traceback</summary><${LongText} value=${trace} limit=${16000} file=${`${name.replaceAll(/[^\w.-]/g, "_")}-traceback.txt`} label="Traceback" /></details>`}
  </section>`;
}

function fact(word, value) {
  return value === undefined || value === null || value === "" || value === "–" ? null : html`<dt>${word}</dt><dd class="fact">${value}</dd>`;
}

function Facts({ about }) {
  const box = about.mailbox;
  return html`<section aria-labelledby="facts-title">
    <h3 id="facts-title">About</h3>
    <dl class="facts">
      ${fact("Kind", about.kind)}
      ${fact("Strategy", about.strategy?.replaceAll("_", " "))}
      ${about.max_restarts !== undefined && fact("Restarts allowed", `${count(about.max_restarts)} in ${measure(about.restart_window)} s, ${count(about.restarts_in_window ?? 0)} used`)}
      ${fact("Life", count(about.incarnation))}
      ${fact("Restarts", count(about.restarts))}
      ${fact("Restarts per minute", measure(about.restarts_per_minute))}
      ${box && fact("In the queue", `${count(box.depth)}${box.size ? ` of ${count(box.size)}` : ""}`)}
      ${box?.expired > 0 && fact("Expired", count(box.expired))}
      ${fact("In flight", count(Number(about.in_flight ?? Number.NaN)))}
      ${fact("Keys", about.keys === undefined ? undefined : `${count(about.keys)} of ${count(about.max_keys)}`)}
      ${about.exposed !== undefined && fact("Served outside", about.exposed ? "yes" : "no")}
      ${about.connection && fact("Connection", short(about.connection))}
      ${about.tools && fact("Tools", short(about.tools.join(", "), 400))}
      ${about.capabilities?.length && fact("Capabilities", about.capabilities.map((one) => html`<span class="tag">${short(typeof one === "string" ? one : (one.name ?? JSON.stringify(one)), 80)}</span> `))}
      ${about.operations?.length && fact("Runs", html`<a href=${href(["runs"], { agent: about.name })}>Its runs</a>`)}
    </dl>
  </section>`;
}

function Children({ nodes }) {
  const shown = nodes.slice(0, 50);
  return html`<section aria-labelledby="children-title">
    <h3 id="children-title">Children · ${count(nodes.length)}</h3>
    <ul class="news">
      ${shown.map((one) => html`<li key=${one.key ?? one.name}><${Status} status=${shownStatus(one)} /><a href=${href(["tree", one.name])}><${Name} value=${one.name} /></a></li>`)}
    </ul>
    ${nodes.length > shown.length && html`<small>and ${count(nodes.length - shown.length)} more</small>`}
  </section>`;
}

function Lately({ name }) {
  return html`<section aria-labelledby="lately-title">
    <h3 id="lately-title">Since this page was opened</h3>
    <${NewsList} name=${name} limit=${8} />
  </section>`;
}
