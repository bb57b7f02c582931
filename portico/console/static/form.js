// Form: something to fill in, made from a JSON Schema, or the same as JSON text. What it means is in `fields.js`; here it is drawn.
// `<${Form} id="answer" schema=${schema} submit="Answer" onSubmit=${(value) => …} faults=${problem.errors} />`
// Each fault (`{path, message}`, `path` a JSON Pointer) stands at its field; those of no field stand above. Who uses it sends.
import { html, useEffect, useMemo, useRef, useState } from "./html.js";
import { below, draftOf, fieldOf, isComposite, isProse, read, row } from "./fields.js";
import { visible } from "./text.js";

const LARGEST_FILE = 64 * 1024 * 1024;
const RADIOS = 4;
const NONE = [];
const INPUT_TYPES = { date: "date", "date-time": "datetime-local", email: "email", uri: "url", url: "url", password: "password" };

/**
 * @param {object} props
 * @param {string} props.id unique on the page
 * @param {any} props.schema JSON Schema; null for anything
 * @param {any} [props.root] where its references lead, if elsewhere (an OpenAPI document)
 * @param {any} [props.value] what is filled in at first
 * @param {string} [props.submit] what the button says
 * @param {boolean} [props.busy]
 * @param {{path: string, message: string}[]} [props.faults] what the gateway found
 * @param {(value: any) => void} props.onSubmit
 * @param {(value: any) => void} [props.onValue] told of each change that makes a right value
 * @param {any} [props.children] more buttons
 */
export function Form({ id, schema, root, value, submit = "Send", busy = false, faults = NONE, onSubmit, onValue, children }) {
  const field = useMemo(() => fieldOf(schema ?? {}, { root: root ?? schema ?? {} }), [schema, root]);
  const [draft, setDraft] = useState(() => draftOf(field, value));
  const [raw, setRaw] = useState(null);
  const [tries, setTries] = useState(0);
  const form = useRef(null);
  // What is wrong is told when somebody has tried to send it, and from then on with each change.
  const own = tries ? (raw === null ? read(field, draft) : parsed(raw)).faults : NONE;
  const told = [...own, ...faults];

  useEffect(() => {
    if (told.length > 0) focusFirst(form.current);
  }, [tries, faults]);

  const tell = ({ value: made, faults: found }) => found.length === 0 && onValue?.(made);
  const change = (next) => {
    setDraft(next);
    if (onValue) tell(read(field, next));
  };
  const typed = (text) => {
    setRaw(text);
    if (onValue) tell(parsed(text));
  };
  const send = (event) => {
    event.preventDefault();
    if (busy) return;
    const found = raw === null ? read(field, draft) : parsed(raw);
    if (found.faults.length > 0) return setTries(tries + 1);
    setTries(0);
    onSubmit(found.value);
  };
  const toJson = () => {
    setTries(0);
    setRaw(JSON.stringify(read(field, draft).value, null, 2));
  };
  const toFields = () => {
    const found = parsed(raw);
    if (found.faults.length > 0) return setTries(tries + 1);
    setTries(0);
    setDraft(draftOf(field, found.value));
    setRaw(null);
  };
  const places = raw === null ? placesOf(field, draft) : new Set([""]);
  const placed = told.map((fault) => ({ ...fault, path: placeOf(fault.path ?? "", places) ?? fault.path, lost: placeOf(fault.path ?? "", places) === null }));

  return html`<form class="form" id=${id} ref=${form} onSubmit=${send} noValidate>
    ${placed.length > 0 && html`<${Summary} faults=${placed.filter((fault) => fault.lost)} count=${placed.length} />`}
    ${raw === null
      ? html`<${Part} id=${id} field=${field} draft=${draft} path="" faults=${placed} onChange=${change} whole />`
      : html`<${Raw} id=${id} faults=${placed} value=${raw} onInput=${typed} />`}
    <div class="form-actions">
      <button type="submit" class="button primary" disabled=${busy}>${busy ? "Sending…" : submit}</button>
      ${children}
      ${field.kind !== "json" &&
      html`<button type="button" class="button quiet" onClick=${raw === null ? toJson : toFields}>${raw === null ? "Edit as JSON" : "Edit as form"}</button>`}
    </div>
  </form>`;
}

/** The whole value as JSON text. */
function Raw({ id, faults, value, onInput }) {
  const { described, invalid, fault } = about({ id, field: { title: "JSON" }, path: "", faults });
  return html`<div class="field">
    <label for=${`${id}-json`}>JSON</label>
    <textarea id=${`${id}-json`} class="code" rows="12" spellcheck=${false} aria-describedby=${described} aria-invalid=${invalid} value=${value} onInput=${(event) => onInput(event.target.value)}></textarea>
    ${fault}
  </div>`;
}

/** Where a fault stands: at its pointer, or at that without one step (a validator names the alternative that it tried); null for nowhere. */
function placeOf(path, places) {
  if (places.has(path)) return path;
  const steps = path.split("/").slice(1);
  for (let at = 0; steps.length > 1 && at < steps.length; at += 1) {
    const shorter = steps.filter((_, other) => other !== at).map((step) => `/${step}`).join("");
    if (places.has(shorter)) return shorter;
  }
  return null;
}

function parsed(text) {
  try {
    return { value: JSON.parse(text), faults: [] };
  } catch (error) {
    return { value: null, faults: [{ path: "", message: `This is not JSON: ${error.message}` }] };
  }
}

function focusFirst(form) {
  const first = form?.querySelector("[aria-invalid=true]");
  const target = first?.matches("fieldset, [role=group], [role=radiogroup]") ? first.querySelector("input, select, textarea, button") : first;
  (target ?? form?.querySelector(".form-summary"))?.focus();
}

/** The pointers at which a fault can stand. */
function placesOf(field, draft, path = "", places = new Set()) {
  places.add(path);
  if (draft?.given === false) return places;
  if (field.kind === "object") {
    for (const one of field.members()) placesOf(one, draft.members[one.name], below(path, one.name), places);
    const extra = field.extra();
    for (const { name, draft: one } of extra ? draft.rows : []) placesOf(extra, one, below(path, name), places);
  } else if (field.kind === "list") {
    draft.items.forEach(({ draft: one }, at) => placesOf(field.item(), one, below(path, at), places));
  } else if (field.kind === "tuple") {
    field.items().forEach((one, at) => placesOf(one, draft.items[at], below(path, at), places));
  } else if (field.kind === "union") {
    placesOf(field.options[draft.chosen].field(), draft.draft, path, places);
  }
  return places;
}

function Summary({ faults, count }) {
  return html`<div class="form-summary complaint" role="alert" tabindex="-1">
    <p>${count === 1 ? "One thing is not right yet." : `${count} things are not right yet.`}</p>
    ${faults.length > 0 &&
    html`<ul>
      ${faults.map(({ path, message }) => html`<li>${path ? html`<code>${visible(path)}</code>${" "}` : ""}${visible(message)}</li>`)}
    </ul>`}
  </div>`;
}

// --- one field ---------------------------------------------------------------------------------------------------------------

/** The id of the control at a pointer: no blanks, whatever a member is called. */
function idOf(id, path) {
  return id + encodeURIComponent(path);
}

function Part(props) {
  const { field } = props;
  if (field.kind === "constant" && field.standard !== true) return Constant(props);
  if (isComposite(field) || field.kind === "list" || field.kind === "several") return html`<${Group} ...${props} />`;
  if (field.kind === "boolean" || (field.kind === "choice" && field.choices.length <= RADIOS)) return html`<${Radios} ...${props} />`;
  return html`<${Single} ...${props} />`;
}

/** What belongs to one field: how its hint and its faults are found by whoever cannot see where they stand. */
function about({ id, field, path, faults, whole }) {
  const at = idOf(id, path);
  const own = faults.filter((fault) => (fault.path ?? "") === path);
  const hint = field.description;
  return {
    at,
    title: field.title || (whole ? "Answer" : "Value"),
    described: [hint && `${at}-hint`, own.length > 0 && `${at}-fault`].filter(Boolean).join(" ") || undefined,
    invalid: own.length > 0 ? "true" : undefined,
    hint: hint && html`<p class="field-hint" id=${`${at}-hint`}>${visible(hint)}</p>`,
    fault: own.length > 0 && html`<p class="field-fault" id=${`${at}-fault`}>${own.map(({ message }) => visible(message)).join(" ")}</p>`,
  };
}

function Optional({ field }) {
  return field.required && !field.nullable ? null : html`${" "}<span class="field-optional">optional</span>`;
}

function Single(props) {
  const { field, draft, onChange } = props;
  const { at, title, described, invalid, hint, fault } = about(props);
  const common = { id: at, "aria-describedby": described, "aria-invalid": invalid };
  if (field.kind === "constant") {
    return html`<div class="field check">
      <input type="checkbox" ...${common} checked=${draft} onChange=${(event) => onChange(event.target.checked)} />
      <label for=${at}>${visible(title)}<${Optional} field=${field} /></label>${hint}${fault}
    </div>`;
  }
  return html`<div class="field">
    <label for=${at}>${visible(title)}<${Optional} field=${field} /></label>
    ${hint}${control(field, draft, onChange, common)}${fault}
  </div>`;
}

function control(field, draft, onChange, common) {
  const { minimum, maximum, multipleOf, format, writeOnly, examples } = field.schema;
  const typed = (event) => onChange(event.target.value);
  const example = Array.isArray(examples) && ["string", "number"].includes(typeof examples[0]) ? `for example ${examples[0]}` : undefined;
  const needed = field.required && !field.nullable ? "true" : undefined;
  switch (field.kind) {
    case "number":
    case "integer":
      return html`<input ...${common} type="text" inputmode=${field.kind === "integer" && minimum >= 0 ? "numeric" : "decimal"} value=${draft}
        placeholder=${example ?? rangeOf(minimum, maximum, multipleOf)} aria-required=${needed} autocomplete="off" onInput=${typed} />`;
    case "choice":
      return html`<select ...${common} aria-required=${needed} value=${String(draft)} onChange=${(event) => onChange(Number(event.target.value))}>
        <option value="-1">—</option>
        ${field.choices.map(({ label }, at) => html`<option value=${String(at)}>${visible(label)}</option>`)}
      </select>`;
    case "file":
      return html`<${File} draft=${draft} onChange=${onChange} common=${common} type=${field.schema.contentMediaType} />`;
    case "null":
      return html`<input ...${common} type="text" value="null" disabled />`;
    case "json":
      return html`<textarea ...${common} class="code" rows="4" spellcheck=${false} placeholder="JSON" onInput=${typed} value=${draft}></textarea>`;
    default: {
      if (isProse(field)) return html`<textarea ...${common} rows="3" aria-required=${needed} placeholder=${example} onInput=${typed} value=${draft}></textarea>`;
      const type = writeOnly ? "password" : (INPUT_TYPES[format] ?? "text");
      return html`<input ...${common} type=${type} step=${type === "datetime-local" ? "1" : undefined} value=${draft} autocomplete=${type === "password" ? "new-password" : "off"}
         placeholder=${example} aria-required=${needed} onInput=${typed} />`;
    }
  }
}

function rangeOf(minimum, maximum, multipleOf) {
  const step = multipleOf ? ` in steps of ${multipleOf}` : "";
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}${step}`;
  if (minimum !== undefined) return `${minimum} or more${step}`;
  if (maximum !== undefined) return `${maximum} or less${step}`;
  return undefined;
}

function File({ draft, onChange, common, type }) {
  const [problem, setProblem] = useState("");
  const latest = useRef(onChange);
  latest.current = onChange; // another field may have changed while the file was read
  const take = async (event) => {
    const file = event.target.files[0];
    setProblem("");
    if (!file) return latest.current(null);
    if (file.size > LARGEST_FILE) return setProblem("This file is too large for a request.");
    try {
      latest.current({ base64: base64(new Uint8Array(await file.arrayBuffer())), name: file.name, size: file.size });
    } catch {
      setProblem("This file could not be read.");
    }
  };
  return html`<div class="field-file">
    <input ...${common} type="file" accept=${type} onChange=${take} />
    ${draft && html`<span class="muted">${draft.size === null ? "as given" : `${draft.size.toLocaleString()} bytes`}</span>`}
    ${problem && html`<p class="field-fault" role="alert">${problem}</p>`}
  </div>`;
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

function Constant(props) {
  const { field } = props;
  return html`<div class="field fixed"><span class="field-name">${visible(about(props).title)}</span> <code>${visible(JSON.stringify(field.standard))}</code></div>`;
}

function Radios(props) {
  const { field, draft, onChange } = props;
  const { at, title, described, invalid, hint, fault } = about(props);
  const choices = field.kind === "boolean" ? [[true, "Yes"], [false, "No"]] : field.choices.map(({ label }, nth) => [nth, label]);
  const none = field.kind === "boolean" ? null : -1;
  const stands = field.standard !== undefined && field.standard !== null;
  const all = !field.nullable && (field.required || stands) ? choices : [...choices, [none, "Not given"]];
  const of = (value, nth) => `${at}-${nth}`;
  return html`<fieldset class="field radios" id=${at} aria-describedby=${described} aria-invalid=${invalid}>
    <legend>${visible(title)}<${Optional} field=${field} /></legend>
    ${hint}
    <div class="radio-row">
      ${all.map(
        ([value, label], nth) => html`<label class="radio" for=${of(value, nth)}>
          <input type="radio" id=${of(value, nth)} name=${at} checked=${draft === value} onChange=${() => onChange(value)} />${visible(label)}
        </label>`,
      )}
    </div>
    ${fault}
  </fieldset>`;
}

// --- several fields ----------------------------------------------------------------------------------------------------------

function Group(props) {
  const { field, draft, onChange, whole } = props;
  const { at, title, described, invalid, hint, fault } = about(props);
  const optional = isComposite(field) && !(field.required && !field.nullable);
  const give = (event) => onChange(event.target.checked ? draftOf(field, undefined, true) : { given: false });
  const body = isComposite(field) && !draft.given ? null : html`<${Inside} ...${props} />`;
  if (whole && field.kind === "object" && !optional) return html`<div class="fields">${hint}${fault}${body}</div>`;
  return html`<fieldset class="field group" id=${at} aria-describedby=${described} aria-invalid=${invalid}>
    <legend>${visible(title)}<${Optional} field=${field} /></legend>
    ${hint}
    ${optional && html`<label class="check"><input type="checkbox" id=${`${at}-given`} checked=${draft.given} onChange=${give} /> Give this</label>`}
    ${body}${fault}
  </fieldset>`;
}

function Inside(props) {
  switch (props.field.kind) {
    case "object":
      return html`<${Members} ...${props} />`;
    case "union":
      return html`<${Union} ...${props} />`;
    case "several":
      return html`<${Several} ...${props} />`;
    case "tuple":
      return html`<${Tuple} ...${props} />`;
    default:
      return html`<${List} ...${props} />`;
  }
}

function Members({ id, field, draft, path, faults, onChange, hidden }) {
  const set = (name) => (next) => onChange({ ...draft, members: { ...draft.members, [name]: next } });
  const extra = field.extra();
  return html`<div class="fields">
    ${field
      .members()
      .filter((one) => !(one.kind === "constant" && one.name === hidden))
      .map((one) => html`<${Part} key=${one.name} id=${id} field=${one} draft=${draft.members[one.name]} path=${below(path, one.name)} faults=${faults} onChange=${set(one.name)} />`)}
    ${extra && html`<${Rows} id=${id} extra=${extra} draft=${draft} path=${path} faults=${faults} onChange=${onChange} />`}
  </div>`;
}

function Rows({ id, extra, draft, path, faults, onChange }) {
  const put = (rows) => onChange({ ...draft, rows });
  const add = () => put([...draft.rows, row(draftOf(extra), "")]);
  return html`${draft.rows.map((one, nth) => {
      const named = idOf(id, `${path}//${one.id}`);
      const set = (changes) => put(draft.rows.map((other) => (other === one ? { ...one, ...changes } : other)));
      return html`<div class="field-row" key=${one.id}>
        <div class="field"><label for=${named}>Name</label>
          <input id=${named} type="text" value=${one.name} autocomplete="off" onInput=${(event) => set({ name: event.target.value })} /></div>
        <${Part} id=${id} field=${{ ...extra, title: extra.title || "Value" }} draft=${one.draft} path=${below(path, one.name)} faults=${faults} onChange=${(next) => set({ draft: next })} />
        <button type="button" class="button quiet" aria-label=${`Remove member ${nth + 1}`} onClick=${() => put(draft.rows.filter((other) => other !== one))}>Remove</button>
      </div>`;
    })}
    <button type="button" class="button quiet add" onClick=${add}>Add a member</button>`;
}

function Union({ id, field, draft, path, faults, onChange }) {
  const at = `${idOf(id, path)}-form`;
  const choose = (event) => {
    const chosen = Number(event.target.value);
    onChange({ given: true, chosen, draft: draftOf(field.options[chosen].field(), undefined, true) });
  };
  const chosen = field.options[draft.chosen].field();
  const inner = { id, field: chosen, draft: draft.draft, path, faults: [], onChange: (next) => onChange({ ...draft, draft: next }) };
  return html`<div class="fields">
    <div class="field"><label for=${at}>${field.discriminator ? visible(field.discriminator) : "Which kind"}</label>
      <select id=${at} value=${String(draft.chosen)} onChange=${choose}>
        ${field.options.map(({ label }, nth) => html`<option value=${String(nth)}>${visible(label)}</option>`)}
      </select></div>
    ${isComposite(chosen)
      ? html`<${Inside} ...${inner} faults=${faults} hidden=${field.discriminator} />`
      : html`<${Part} key=${draft.chosen} ...${inner} id=${`${id}-${draft.chosen}`} />`}
  </div>`;
}

function Several({ id, field, draft, path, onChange }) {
  const at = idOf(id, path);
  return html`<div class="radio-row">
    ${field.choices.map(
      ({ label }, nth) => html`<label class="radio" for=${`${at}-${nth}`}>
        <input type="checkbox" id=${`${at}-${nth}`} checked=${draft[nth]} onChange=${(event) => onChange(draft.map((one, other) => (other === nth ? event.target.checked : one)))} />${visible(label)}
      </label>`,
    )}
  </div>`;
}

function Tuple({ id, field, draft, path, faults, onChange }) {
  const set = (at) => (next) => onChange({ ...draft, items: draft.items.map((one, other) => (other === at ? next : one)) });
  return html`<div class="fields">
    ${field.items().map((one, at) => {
      const named = { ...one, title: one.title && one.title !== one.name ? one.title : `Part ${at + 1}` };
      return html`<${Part} key=${at} id=${id} field=${named} draft=${draft.items[at]} path=${below(path, at)} faults=${faults} onChange=${set(at)} />`;
    })}
  </div>`;
}

function List({ id, field, draft, path, faults, onChange }) {
  const item = field.item();
  const { maxItems = Infinity } = field.schema;
  const added = useRef(null);
  const put = (items) => onChange({ ...draft, items });
  const add = () => {
    const next = row(draftOf(item, undefined, true));
    added.current = next.id;
    put([...draft.items, next]);
  };
  useEffect(() => {
    if (added.current === null) return;
    document.getElementById(`${idOf(id, path)}-item-${added.current}`)?.querySelector("input, select, textarea")?.focus();
    added.current = null;
  }, [draft.items.length]);
  return html`<div class="fields">
    ${draft.items.map((one, at) => {
      const named = { ...item, title: item.title ? `${item.title} ${at + 1}` : `Entry ${at + 1}` };
      const set = (next) => put(draft.items.map((other) => (other === one ? { ...one, draft: next } : other)));
      return html`<div class="field-row" key=${one.id} id=${`${idOf(id, path)}-item-${one.id}`}>
        <${Part} id=${id} field=${named} draft=${one.draft} path=${below(path, at)} faults=${faults} onChange=${set} />
        <button type="button" class="button quiet" aria-label=${`Remove entry ${at + 1}`} onClick=${() => put(draft.items.filter((other) => other !== one))}>Remove</button>
      </div>`;
    })}
    <button type="button" class="button quiet add" disabled=${draft.items.length >= maxItems} onClick=${add}>Add an entry</button>
  </div>`;
}
