// Fields: what a JSON Schema (2020-12, as pydantic and MCP write them) asks a person for, and what was filled in, as plain data.
// A `Field` is one thing to fill in. A `draft` is what stands in it: text where somebody types, objects of drafts, lists of drafts.
// `draftOf` begins one, `read` makes the value of it and says what is wrong. Above: `form.js`, which draws them. No page here.
// What is understood by no kind of field is a `json` field: a text that must be JSON. The gateway has the last word in any case.

/** What `read` returns for an optional member that nobody gave. */
export const LEFT_OUT = Symbol("left out");

const DEEPEST = 24;
const HOPS = 32;
const LONG = 200;
const PROSE = /^(text|prompt|message|body|content|description|comment|note|reason|instructions?|question|summary|details?)$/i;
const BINARY = new Set(["binary", "base64", "base64url", "byte"]);
let serial = 0;

/**
 * @typedef {object} Field
 * @property {string} kind text, number, integer, boolean, choice, several, constant, object, list, tuple, union, file, null or json
 * @property {string} name of the member; empty for the whole
 * @property {string} title
 * @property {string} description
 * @property {boolean} required whether the value may not be left out
 * @property {boolean} nullable whether null is a value
 * @property {any} [standard] the default, where there is one
 * @property {any} schema without references
 * @property {number} depth
 * @property {{value: any, label: string}[]} [choices] of `choice` and `several`
 * @property {() => Field[]} [members] of `object`
 * @property {() => Field | null} [extra] of `object`: what its further members are
 * @property {() => Field} [item] of `list`
 * @property {() => Field[]} [items] of `tuple`
 * @property {{label: string, field: () => Field}[]} [options] of `union`
 * @property {string} [discriminator] of `union`
 */

/**
 * The field that a schema makes.
 *
 * @param {any} schema
 * @param {{root?: any, name?: string, required?: boolean, depth?: number}} [about] `root`: where its references lead
 * @returns {Field}
 */
export function fieldOf(schema, { root = schema, name = "", required = true, depth = 0 } = {}) {
  const found = resolved(schema, root);
  const plain = found.schema;
  const field = {
    kind: "json",
    name,
    title: typeof plain.title === "string" && plain.title ? plain.title : name,
    description: typeof plain.description === "string" ? plain.description : "",
    required,
    nullable: false,
    standard: plain.default,
    schema: plain,
    depth,
  };
  if (!found.whole || depth > DEEPEST) return field;
  return understood(field, plain, found.root) ?? field;
}

/** References followed; what stands beside a reference wins. `whole`: whether all of it could be found. */
function resolved(schema, root) {
  let beside = {};
  for (let hops = 0; hops < HOPS; hops += 1) {
    if (schema === true || schema === undefined) return { schema: beside, root, whole: true };
    if (schema === null || typeof schema !== "object" || Array.isArray(schema)) return { schema: beside, root, whole: false };
    if (typeof schema.$id === "string") root = schema;
    const { $ref, allOf, ...rest } = schema;
    if (typeof $ref === "string") {
      beside = { ...without(rest, "$defs", "$id"), ...beside };
      const target = target_of(root, $ref);
      if (target === undefined) return { schema: beside, root, whole: false };
      schema = target;
    } else if (Array.isArray(allOf)) {
      if (allOf.length !== 1) return { schema: { ...rest, ...beside }, root, whole: false };
      beside = { ...without(rest, "$defs", "$id"), ...beside };
      schema = allOf[0];
    } else {
      return { schema: { ...schema, ...beside }, root, whole: true };
    }
  }
  return { schema: beside, root, whole: false };
}

function without(members, ...names) {
  return Object.fromEntries(Object.entries(members).filter(([name]) => !names.includes(name)));
}

function target_of(root, reference) {
  if (!reference.startsWith("#")) return undefined;
  let at = root;
  for (const part of reference.slice(1).split("/").slice(1)) {
    const key = decoded(part).replaceAll("~1", "/").replaceAll("~0", "~");
    if (at === null || typeof at !== "object" || !Object.hasOwn(at, key)) return undefined;
    at = at[key];
  }
  return at;
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A field of a kind that there is, or null. */
function understood(field, schema, root) {
  const inner = { root, depth: field.depth + 1 };
  if ("const" in schema) return { ...field, kind: schema.const === null ? "null" : "constant", standard: schema.const };
  if (Array.isArray(schema.enum)) return choice(field, schema.enum.map((value, at) => titled(value, schema.enumNames?.[at])));
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(alternatives)) return ofAlternatives(field, schema, alternatives, root);
  const types = [schema.type ?? guessed(schema)].flat();
  const said = types.filter((type) => type !== "null");
  if (said.length < types.length) field = { ...field, nullable: true };
  if (said.length === 0) return { ...field, kind: "null" };
  if (said.length > 1) {
    return union(field, said.map((type) => ({ ...without(schema, "default", "title", "description"), type })), root);
  }
  switch (said[0]) {
    case "string":
      return { ...field, kind: isBinary(schema) ? "file" : "text" };
    case "integer":
    case "number":
    case "boolean":
      return { ...field, kind: said[0] };
    case "array":
      return ofArray(field, schema, inner);
    case "object":
      return ofObject(field, schema, inner);
    default:
      return null;
  }
}

function titled(value, title) {
  return { value, label: typeof title === "string" ? title : typeof value === "string" ? value : JSON.stringify(value) };
}

function choice(field, choices) {
  const given = choices.filter(({ value }) => value !== null);
  if (given.length === 0) return { ...field, kind: "null" };
  return { ...field, kind: "choice", choices: given, nullable: field.nullable || given.length < choices.length };
}

function guessed(schema) {
  if (schema.properties || schema.additionalProperties) return "object";
  if (schema.items || schema.prefixItems) return "array";
  if (schema.format || schema.pattern || "minLength" in schema || "maxLength" in schema || schema.contentEncoding) return "string";
  if ("minimum" in schema || "maximum" in schema || "multipleOf" in schema) return "number";
  return undefined;
}

function isBinary(schema) {
  return /^base64/.test(schema.contentEncoding ?? "") || BINARY.has(schema.format);
}

function ofAlternatives(field, schema, alternatives, root) {
  const parts = alternatives.map((one) => ({ one, ...resolved(one, root) }));
  const given = parts.filter(({ schema: part }) => part.type !== "null" && part.const !== null);
  if (given.length < parts.length) field = { ...field, nullable: true };
  if (given.length === 0) return { ...field, kind: "null" };
  if (given.every(({ schema: part }) => "const" in part)) {
    return choice(field, given.map(({ schema: part }) => titled(part.const, part.title)));
  }
  if (given.length === 1) {
    const beside = without(schema, "anyOf", "oneOf", "$defs", "$id", "discriminator");
    const only = fieldOf({ ...given[0].schema, ...beside }, { ...field, root: given[0].root });
    return { ...only, nullable: field.nullable };
  }
  const types = given.map(({ schema: part }) => part.type).toSorted().join();
  if (types === "number,string" && given.every(({ schema: part }) => !part.enum && !part.format)) {
    return { ...field, kind: "text", decimal: true }; // how pydantic writes a Decimal
  }
  return union(field, given.map(({ one }) => one), root, schema.discriminator?.propertyName);
}

function union(field, alternatives, root, discriminator) {
  const options = alternatives.map((one, at) => {
    const make = once(() => fieldOf(one, { root, name: field.name, depth: field.depth + 1 }));
    const { schema } = resolved(one, root);
    const tag = discriminator && schema.properties?.[discriminator];
    const label = tag?.const ?? schema.title ?? (schema.type ? spoken([schema.type].flat().join(" or ")) : `form ${at + 1}`);
    return { label: String(label), field: make };
  });
  return { ...field, kind: "union", options, discriminator };
}

function spoken(type) {
  return { string: "text", integer: "whole number", boolean: "yes or no", array: "list" }[type] ?? type;
}

function ofArray(field, schema, about) {
  if (Array.isArray(schema.prefixItems)) {
    if (schema.items !== undefined && schema.items !== false && schema.maxItems !== schema.prefixItems.length) return null;
    const items = once(() => schema.prefixItems.map((one, at) => fieldOf(one, { ...about, name: String(at) })));
    return { ...field, kind: "tuple", items };
  }
  if (Array.isArray(schema.items) || schema.items === false) return null;
  const item = once(() => fieldOf(schema.items ?? {}, about));
  const first = item();
  if (first.kind === "choice" && !first.nullable && (schema.uniqueItems || first.schema.type === "string")) {
    return { ...field, kind: "several", choices: first.choices };
  }
  return { ...field, kind: "list", item };
}

function ofObject(field, schema, about) {
  const properties = Object.entries(schema.properties ?? {});
  const needed = new Set(Array.isArray(schema.required) ? schema.required : []);
  const open = schema.additionalProperties;
  if (properties.length === 0 && (open === undefined || open === true)) return null; // any object: nothing to draw
  if (schema.patternProperties || [...needed].some((name) => !Object.hasOwn(schema.properties ?? {}, name))) return null;
  const members = once(() => properties.map(([name, one]) => fieldOf(one, { ...about, name, required: needed.has(name) })));
  const extra = once(() => (open && typeof open === "object" ? fieldOf(open, about) : null));
  return { ...field, kind: "object", members, extra };
}

function once(make) {
  let made;
  return () => (made ??= { it: make() }).it;
}

/** Whether a text has more than a line. @param {Field} field */
export function isProse(field) {
  const { format, pattern, maxLength, contentMediaType } = field.schema;
  if (format || pattern || field.decimal) return false;
  if (maxLength !== undefined) return maxLength > LONG;
  return PROSE.test(field.name) || Boolean(contentMediaType) || (typeof field.standard === "string" && field.standard.includes("\n"));
}

/** Whether it is a thing with parts, which may be given or not as a whole. @param {Field} field */
export function isComposite(field) {
  return field.kind === "object" || field.kind === "tuple" || field.kind === "union";
}

// --- drafts ----------------------------------------------------------------------------------------------------------------

/**
 * What stands in a field at first: this value, or its default, or nothing.
 *
 * @param {Field} field
 * @param {any} [value]
 * @param {boolean} [given] whether a thing with parts is there although nobody gave it
 * @returns {any}
 */
export function draftOf(field, value = LEFT_OUT, given = false) {
  if (field.kind === "constant" && field.standard === true) return value === true; // somebody has to tick it
  if (value === LEFT_OUT && field.standard !== undefined && field.standard !== null) value = field.standard;
  const there = value !== LEFT_OUT && value !== null && value !== undefined;
  switch (field.kind) {
    case "text":
      return there ? asTyped(field, value) : "";
    case "number":
    case "integer":
      return there ? String(value) : "";
    case "boolean":
      return there ? Boolean(value) : field.required || field.nullable ? null : null;
    case "choice":
      return there ? field.choices.findIndex((one) => same(one.value, value)) : -1;
    case "several":
      return field.choices.map((one) => Array.isArray(value) && value.some((given_one) => same(given_one, one.value)));
    case "constant":
      return field.required || there;
    case "file":
      return there ? { base64: String(value), name: "", size: null } : null;
    case "list":
      return { items: (Array.isArray(value) ? value : least(field)).map((one) => row(draftOf(field.item(), one))) };
    case "object":
      return there || given || (field.required && !field.nullable) ? draftOfObject(field, value) : { given: false };
    case "tuple":
      if (!(there || given || (field.required && !field.nullable))) return { given: false };
      return { given: true, items: field.items().map((one, at) => draftOf(one, Array.isArray(value) ? value[at] : LEFT_OUT)) };
    case "union":
      return there || given || (field.required && !field.nullable) ? draftOfUnion(field, value) : { given: false };
    case "null":
      return null;
    default:
      return there || value === null ? JSON.stringify(value, null, 2) : "";
  }
}

function least(field) {
  const { minItems = 0 } = field.schema;
  return Array.from({ length: field.required ? Math.min(minItems, 10) : 0 }, () => LEFT_OUT);
}

/** A place in a list, which keeps its identity. */
export function row(draft, name = "") {
  serial += 1;
  return { id: serial, name, draft };
}

function draftOfObject(field, value) {
  const given = value && typeof value === "object" && !Array.isArray(value) ? value : {};
  const known = field.members();
  const members = Object.fromEntries(known.map((one) => [one.name, draftOf(one, Object.hasOwn(given, one.name) ? given[one.name] : LEFT_OUT)]));
  const extra = field.extra();
  const more = Object.keys(given).filter((name) => !known.some((one) => one.name === name));
  return { given: true, members, rows: extra ? more.map((name) => row(draftOf(extra, given[name]), name)) : [] };
}

function draftOfUnion(field, value) {
  let chosen = 0;
  if (value !== LEFT_OUT && value !== null && value !== undefined) {
    const fits = field.options.findIndex(({ field: option }) => accepts(option(), value));
    chosen = Math.max(fits, 0);
  }
  return { given: true, chosen, draft: draftOf(field.options[chosen].field(), value, true) };
}

function accepts(field, value) {
  const [type, kind] = [typeof value, field.kind];
  if (kind === "json") return true;
  if (kind === "constant") return same(field.standard, value);
  if (kind === "choice") return field.choices.some((one) => same(one.value, value));
  if (kind === "object") {
    if (type !== "object" || value === null || Array.isArray(value)) return false;
    return field.members().every((one) => (Object.hasOwn(value, one.name) ? accepts(one, value[one.name]) : !one.required));
  }
  if (kind === "list" || kind === "tuple" || kind === "several") return Array.isArray(value);
  if (kind === "union") return field.options.some(({ field: option }) => accepts(option(), value));
  return { text: "string", file: "string", number: "number", integer: "number", boolean: "boolean" }[kind] === type;
}

function same(one, other) {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

/** What a text input shows of a value. */
function asTyped(field, value) {
  if (field.schema.format !== "date-time") return String(value);
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) return String(value);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

// --- values ----------------------------------------------------------------------------------------------------------------

/**
 * The value of a draft, and what is wrong with it.
 *
 * @param {Field} field
 * @param {any} draft
 * @returns {{value: any, faults: {path: string, message: string}[]}} `path`: a JSON Pointer
 */
export function read(field, draft) {
  const faults = [];
  const value = valueOf(field, draft, "", (path, message) => faults.push({ path, message }));
  return { value: value === LEFT_OUT ? null : value, faults };
}

/** A pointer to a part. @param {string} path @param {string | number} part */
export function below(path, part) {
  return `${path}/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

function nothing(field, path, fault) {
  if (!field.required) return LEFT_OUT;
  if (field.nullable) return null;
  fault(path, "Fill this in.");
  return LEFT_OUT;
}

function valueOf(field, draft, path, fault) {
  switch (field.kind) {
    case "text":
      return textOf(field, draft, path, fault);
    case "number":
    case "integer":
      return numberOf(field, draft, path, fault);
    case "boolean":
      if (draft !== null) return draft;
      return field.required && !field.nullable ? (fault(path, "Say yes or no."), LEFT_OUT) : nothing(field, path, fault);
    case "choice":
      if (draft >= 0) return field.choices[draft].value;
      return field.required && !field.nullable ? (fault(path, "Choose one."), LEFT_OUT) : nothing(field, path, fault);
    case "several":
      return severalOf(field, draft, path, fault);
    case "constant":
      if (draft) return field.standard;
      return field.required ? (fault(path, "This must be ticked."), LEFT_OUT) : LEFT_OUT;
    case "file":
      return draft === null ? (field.required && !field.nullable ? (fault(path, "Choose a file."), LEFT_OUT) : nothing(field, path, fault)) : draft.base64;
    case "list":
      return listOf(field, draft, path, fault);
    case "object":
      return draft.given ? objectOf(field, draft, path, fault) : nothing(field, path, fault);
    case "tuple":
      if (!draft.given) return nothing(field, path, fault);
      return field.items().map((one, at) => valueOf(one, draft.items[at], below(path, at), fault));
    case "union":
      return draft.given ? valueOf(field.options[draft.chosen].field(), draft.draft, path, fault) : nothing(field, path, fault);
    case "null":
      return field.required ? null : LEFT_OUT;
    default:
      return jsonOf(field, draft, path, fault);
  }
}

function textOf(field, draft, path, fault) {
  const { format, minLength = 0, maxLength = Infinity, pattern } = field.schema;
  if (draft === "") {
    const typed = Boolean(format || pattern || field.decimal);
    const stands = typeof field.standard === "string" && field.standard !== "";
    if (!field.required && !stands) return LEFT_OUT;
    if (field.nullable) return null;
    if (field.required ? typed || minLength > 0 : typed) return field.required ? nothing(field, path, fault) : LEFT_OUT;
    return "";
  }
  const length = [...draft].length;
  if (length < minLength) fault(path, `At least ${minLength} characters; these are ${length}.`);
  if (length > maxLength) fault(path, `At most ${maxLength} characters; these are ${length}.`);
  if (field.decimal && !/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(draft)) fault(path, "This must be a number.");
  if (pattern !== undefined && !matches(pattern, draft)) fault(path, `This must look like ${pattern}`);
  if (format === "email" && !/^[^\s@]+@[^\s@]+$/.test(draft)) fault(path, "This must be an e-mail address.");
  if ((format === "uri" || format === "url") && !URL.canParse(draft)) fault(path, "This must be an address, such as https://example.org.");
  if (format === "uuid" && !/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(draft)) fault(path, "This must be a UUID.");
  if (format === "date-time") {
    const at = new Date(draft);
    if (Number.isNaN(at.getTime())) fault(path, "This must be a date and a time.");
    else return at.toISOString();
  }
  return draft;
}

function matches(pattern, text) {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true; // another dialect: the gateway tells
  }
}

function numberOf(field, draft, path, fault) {
  const text = draft.trim();
  if (text === "") return nothing(field, path, fault);
  const value = Number(text);
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = field.schema;
  if (!Number.isFinite(value)) fault(path, "This must be a number.");
  else if (field.kind === "integer" && !Number.isInteger(value)) fault(path, "This must be a whole number.");
  else if (field.kind === "integer" && !Number.isSafeInteger(value)) fault(path, "Numbers as large as this can only be given as JSON.");
  else if (minimum !== undefined && value < minimum) fault(path, `This must be ${minimum} or more.`);
  else if (maximum !== undefined && value > maximum) fault(path, `This must be ${maximum} or less.`);
  else if (exclusiveMinimum !== undefined && value <= exclusiveMinimum) fault(path, `This must be more than ${exclusiveMinimum}.`);
  else if (exclusiveMaximum !== undefined && value >= exclusiveMaximum) fault(path, `This must be less than ${exclusiveMaximum}.`);
  else if (multipleOf && Math.abs(value / multipleOf - Math.round(value / multipleOf)) > 1e-9) fault(path, `This must be a multiple of ${multipleOf}.`);
  return value;
}

function bounded(field, length, path, fault) {
  const { minItems = 0, maxItems = Infinity } = field.schema;
  if (length < minItems) fault(path, `At least ${minItems} of these; there ${length === 1 ? "is" : "are"} ${length}.`);
  if (length > maxItems) fault(path, `At most ${maxItems} of these; there are ${length}.`);
}

function severalOf(field, draft, path, fault) {
  const chosen = field.choices.filter((_, at) => draft[at]).map((one) => one.value);
  if (chosen.length === 0 && !field.required && field.standard === undefined) return LEFT_OUT;
  bounded(field, chosen.length, path, fault);
  return chosen;
}

function listOf(field, draft, path, fault) {
  if (draft.items.length === 0 && !field.required && !(Array.isArray(field.standard) && field.standard.length > 0)) return LEFT_OUT;
  if (draft.items.length === 0 && field.nullable) return null;
  bounded(field, draft.items.length, path, fault);
  const values = draft.items.map(({ draft: one }, at) => valueOf(field.item(), one, below(path, at), fault));
  if (field.schema.uniqueItems && new Set(values.map((one) => JSON.stringify(one))).size < values.length) {
    fault(path, "Each of these may be there only once.");
  }
  return values;
}

function objectOf(field, draft, path, fault) {
  const value = {};
  for (const one of field.members()) {
    const member = valueOf(one, draft.members[one.name], below(path, one.name), fault);
    if (member !== LEFT_OUT) put(value, one.name, member);
  }
  const extra = field.extra();
  for (const { name, draft: one } of extra ? draft.rows : []) {
    if (Object.hasOwn(value, name)) fault(path, `There is more than one ${JSON.stringify(name)}.`);
    const member = valueOf(extra, one, below(path, name), fault);
    if (member !== LEFT_OUT) put(value, name, member);
  }
  return value;
}

/** As a member of its own, whatever its name: `__proto__` too. */
function put(value, name, member) {
  Object.defineProperty(value, name, { value: member, enumerable: true, configurable: true, writable: true });
}

function jsonOf(field, draft, path, fault) {
  if (draft.trim() === "") return nothing(field, path, fault);
  try {
    return JSON.parse(draft);
  } catch (error) {
    fault(path, `This is not JSON: ${error.message}`);
    return LEFT_OUT;
  }
}
