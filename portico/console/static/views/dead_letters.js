// DeadLetters: what failed after its retries, and a way to send it again: one, or several that were chosen.
import { html, useEffect, useMemo, useState } from "../html.js";
import { path } from "../api.js";
import { ago, count, instant, plural } from "../format.js";
import { refine } from "../filters.js";
import { useGateway } from "../gateway.js";
import { Icon } from "../icon.js";
import { Json } from "../json_view.js";
import { Empty, ListFoot, Trouble } from "../list_state.js";
import { useNarrow } from "../narrow.js";
import { useObservable } from "../observable.js";
import { Pages } from "../pages.js";
import { href } from "../router.js";
import { LongText, Name, short, visible } from "../text.js";
import { useTick } from "../tick.js";
import { Typed } from "../typed.js";
import { ViewHead } from "../view_head.js";
import { VirtualList } from "../virtual_list.js";

const ROW = 36;
const NARROW_ROW = 62;

export function LettersView({ route }) {
  const gateway = useGateway();
  const agent = route.query.get("agent") ?? "";
  const list = useMemo(() => new Pages(gateway.api, { path: "dead-letters", member: "dead_letters", key: "id" }), [gateway]);
  useObservable(list);
  useEffect(() => void list.open(agent ? { agent } : {}), [list, agent]);
  useEffect(() => {
    const ends = [
      gateway.stream.on("message.dead_letter", () => list.freshen()),
      gateway.stream.on("run.failed", () => list.freshen()),
      gateway.stream.on("gap", () => list.reload()),
      gateway.stream.on("blind", () => list.freshen(0)),
    ];
    return () => {
      list.close();
      for (const end of ends) end();
    };
  }, [list]);
  const [chosen, setChosen] = useState(new Set());
  const [active, setActive] = useState("");
  const letter = list.known.get(active) ?? null;
  const picked = list.rows.filter((one) => chosen.has(one.id));
  const toggle = (id) => setChosen((before) => new Set(before.has(id) ? [...before].filter((one) => one !== id) : [...before, id]));
  const again = async (letters) => {
    const gone = await redrive(gateway, letters);
    for (const id of gone) list.drop(id);
    setChosen((before) => new Set([...before].filter((id) => !gone.includes(id))));
    if (gone.length) document.getElementById("letters")?.focus({ preventScroll: true });
  };

  return html`<div class="view">
    <${ViewHead} title="Dead letters">
      <${Typed} label="Agent" name="agent" value=${agent} onChange=${(name, value) => refine(gateway.router, { [name]: value })} />
      <button type="button" class="button" disabled=${!list.rows.length} onClick=${() => setChosen(new Set(picked.length === list.rows.length ? [] : list.rows.map((one) => one.id)))}>
        ${picked.length && picked.length === list.rows.length ? "Choose none" : "Choose all shown"}
      </button>
      <button type="button" class="button primary" disabled=${!picked.length} onClick=${() => again(picked)}>
        ${picked.length ? `Send ${plural(picked.length, "letter")} again` : "Send chosen again"}
      </button>
    <//>
    <div class=${`split ${letter ? "open" : ""}`}>
      <div class="list">
        ${list.state === "failed" && html`<${Trouble} problem=${list.problem} what="Dead letters" onAgain=${() => list.again()} />`}
        ${!(list.state === "failed" && !list.rows.length) && html`<${Letters} list=${list} chosen=${chosen} active=${active} onActive=${setActive} onToggle=${toggle} filtered=${agent !== ""} /><${ListFoot} list=${list} one="dead letter" many="dead letters" />`}
      </div>
      ${letter && html`<${Letter} letter=${letter} onClose=${() => setActive("")} onAgain=${() => again([letter])} />`}
    </div>
  </div>`;
}

function Letters({ list, chosen, active, onActive, onToggle, filtered }) {
  const gateway = useGateway();
  const narrow = useNarrow();
  useTick(true, 5000);
  const now = gateway.clock.now();
  const index = active ? list.rows.findIndex((one) => one.id === active) : -1;
  const columns = html`
    <span role="columnheader" class="cell-check"><span class="visually-hidden">Chosen</span></span>
    <span role="columnheader" class="cell-agent">Agent</span>
    <span role="columnheader" class="cell-reason">Reason</span>
    <span role="columnheader" class="cell-number cell-attempts">Attempts</span>
    <span role="columnheader" class="cell-number">Failed</span>`;
  const row = (at) => {
    const one = list.rows[at];
    const on = chosen.has(one.id);
    const pick = (event) => {
      event.stopPropagation();
      onToggle(one.id);
    };
    const cells = html`
      <span role="gridcell" class="cell-check" onClick=${pick}><span class=${`tick ${on ? "on" : ""}`}>${on && html`<${Icon} name="done" size=${14} />`}</span><span class="visually-hidden">${on ? "chosen" : "not chosen"}</span></span>
      <span role="gridcell" class="cell-agent"><bdi class="strong">${short(one.agent, 60)}</bdi>${one.operation === one.agent ? "" : html` <bdi class="muted">${short(one.operation, 60)}</bdi>`}</span>
      <span role="gridcell" class="cell-reason">${short(one.reason, 200)}</span>
      <span role="gridcell" class="cell-number cell-attempts">${count(one.attempts)}</span>
      <span role="gridcell" class="cell-number" title=${instant(one.created_at)}>${ago(one.created_at, now)}</span>`;
    return { key: one.id, attributes: { "data-letter": one.id }, cells };
  };
  const key = (event, at) => {
    if (event.key !== " " || at < 0) return false;
    onToggle(list.rows[at].id);
    return true;
  };
  const empty = list.state === "loading" ? html`<p class="muted">Loading …</p>` : html`<${Empty} title=${filtered ? "This agent has no dead letters" : "No dead letters"}>What fails after all its attempts is kept here, and can be sent again.<//>`;
  return html`<div class="virtual-box letters"><${VirtualList}
    id="letters"
    label="Dead letters. Space chooses, Enter opens."
    count=${list.rows.length}
    rowHeight=${narrow ? NARROW_ROW : ROW}
    columns=${narrow ? null : columns}
    row=${row}
    active=${index}
    onActive=${(at) => onActive(list.rows[at]?.id ?? "")}
    onKey=${key}
    onNearEnd=${() => list.more()}
    anchor=${list.added}
    empty=${empty}
  /></div>`;
}

function Letter({ letter, onClose, onAgain }) {
  const gateway = useGateway();
  const now = gateway.clock.now();
  return html`<aside class="panel" aria-label="The dead letter">
    <div class="panel-head">
      <div class="panel-title"><h2><${Name} value=${letter.agent} limit=${120} /></h2>
        <button type="button" class="icon-button" aria-label="Close details" onClick=${onClose}><${Icon} name="close" /></button>
      </div>
      <div class="actions"><button type="button" class="button primary" onClick=${onAgain}>Send again</button></div>
    </div>
    <section>
      <dl class="facts">
        <div><dt>Operation</dt><dd><${Name} value=${letter.operation} /></dd></div>
        <div><dt>Failed</dt><dd><time datetime=${letter.created_at} title=${instant(letter.created_at)}>${ago(letter.created_at, now)}</time></dd></div>
        <div><dt>Attempts</dt><dd>${count(letter.attempts)}</dd></div>
        <div><dt>Run</dt><dd>${letter.run_id ? html`<a href=${href(["runs", letter.run_id])}><code class="break">${short(letter.run_id, 130)}</code></a>` : html`<span class="muted">none: a message without a run</span>`}</dd></div>
      </dl>
    </section>
    <section><h3>Reason</h3><${LongText} value=${letter.reason} limit=${2000} file="reason.txt" label="Reason" /></section>
    <section><h3>Request</h3><${Json} value=${letter.payload} label="request" /></section>
  </aside>`;
}

/** Send letters again, one after another. Returns the ids of those that are dead letters no more. */
async function redrive(gateway, letters) {
  const many = letters.length > 1;
  const sure = await gateway.dialogs.confirm({
    title: many ? `Send ${count(letters.length)} dead letters again?` : "Send this dead letter again?",
    text: html`<p>${many ? "Each becomes a new run" : html`It becomes a new run of <${Name} value=${letters[0].agent} limit=${80} />`}, as whoever sent it first. What its handling did before it failed may be done again.</p>`,
    action: "Send again",
  });
  if (!sure) return [];
  const gone = [];
  let [failed, first] = [0, ""];
  for (const letter of letters) {
    try {
      await gateway.api.post(`${path("dead-letters", letter.id)}/redrive`);
      gone.push(letter.id);
    } catch (problem) {
      failed += 1;
      first ||= problem.message;
      if (problem.status === 404) gone.push(letter.id);
      if (problem.status === 401 || problem.status === 403 || problem.status === 0) break;
    }
  }
  const sent = letters.length === 1 ? "The letter is sent again, as a new run." : `${plural(gone.length, "letter")} sent again.`;
  if (failed) gateway.announcer.tell(`${many && gone.length ? `${sent} ` : ""}${many ? `${count(letters.length - gone.length)} not: ` : ""}${visible(first)}`, "bad");
  else gateway.announcer.tell(sent, "good");
  return gone;
}
