// What forms make of schemas, and of what somebody has filled in: `node --test`, run by test_modules.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { draftOf, fieldOf, read } from "../../portico/console/static/fields.js";

const filled = (schema, value) => {
  const field = fieldOf(schema);
  return read(field, draftOf(field, value));
};
const kind = (schema) => fieldOf(schema).kind;
const object = (properties, required = Object.keys(properties)) => ({ type: "object", properties, required });

test("a value that satisfies its schema comes back as it was", () => {
  const schema = {
    $defs: {
      Size: { enum: ["small", "large"], title: "Size" },
      Cat: object({ kind: { const: "cat" }, lives: { type: "integer", default: 9 } }, ["kind"]),
      Dog: object({ kind: { const: "dog" }, name: { type: "string" } }),
    },
    ...object({
      text: { type: "string" },
      number: { type: "number" },
      whole: { type: "integer" },
      sure: { type: "boolean" },
      nothing: { type: "null" },
      size: { $ref: "#/$defs/Size" },
      maybe: { anyOf: [{ type: "integer" }, { type: "null" }] },
      amount: { anyOf: [{ type: "number" }, { type: "string" }] },
      pet: { oneOf: [{ $ref: "#/$defs/Cat" }, { $ref: "#/$defs/Dog" }], discriminator: { propertyName: "kind" } },
      list: { type: "array", items: { type: "integer" } },
      pair: { type: "array", prefixItems: [{ type: "string" }, { type: "boolean" }], minItems: 2, maxItems: 2 },
      some: { type: "array", items: { enum: ["a", "b", "c"], type: "string" }, uniqueItems: true },
      map: { type: "object", additionalProperties: { type: "number" } },
      file: { type: "string", contentEncoding: "base64" },
      any: {},
      open: { type: "object" },
    }),
  };
  const value = {
    text: "tea",
    number: 1.5,
    whole: -3,
    sure: false,
    nothing: null,
    size: "large",
    maybe: null,
    amount: "12.50",
    pet: { kind: "dog", name: "Rex" },
    list: [3, 1],
    pair: ["x", true],
    some: ["a", "c"],
    map: { one: 1, two: 2 },
    file: "aGk=",
    any: [{ deep: true }],
    open: { what: "ever" },
  };
  assert.deepEqual(filled(schema, value), { value, faults: [] });
});

test("what is left empty and optional is left out, and what has a default has it", () => {
  const schema = object({ a: { type: "string" }, b: { type: "integer" }, c: { type: "integer", default: 4 }, d: { enum: ["x"] }, e: { type: "boolean" }, f: object({ g: { type: "string" } }), h: { type: "array", items: {} } }, []);
  assert.deepEqual(filled(schema), { value: { c: 4 }, faults: [] });
});

test("null is said where it is required and may be null", () => {
  assert.deepEqual(filled(object({ a: { type: ["string", "null"], minLength: 1 } })).value, { a: null });
});

test("what breaks a bound is told, with a pointer to its field", () => {
  const schema = object({
    "a/b": { type: "integer", minimum: 1 },
    list: { type: "array", minItems: 1, items: object({ name: { type: "string", minLength: 3 } }) },
    mail: { type: "string", format: "email" },
    code: { type: "string", pattern: "^[A-Z]+$" },
    half: { type: "number", multipleOf: 0.5 },
  });
  const { faults } = filled(schema, { "a/b": 0, list: [{ name: "ab" }], mail: "nobody", code: "ab", half: 0.3 });
  assert.deepEqual(faults.map((fault) => fault.path), ["/a~1b", "/list/0/name", "/mail", "/code", "/half"]);
});

test("what is required and empty is told", () => {
  const { faults } = filled(object({ n: { type: "integer" }, s: { type: "boolean" }, e: { enum: [1, 2] }, f: { type: "string", contentEncoding: "base64" } }));
  assert.deepEqual(faults.map((fault) => fault.path), ["/n", "/s", "/e", "/f"]);
});

test("a required text may be empty where nothing forbids it", () => {
  assert.deepEqual(filled(object({ s: { type: "string" } })), { value: { s: "" }, faults: [] });
});

test("what somebody has to confirm is not confirmed beforehand", () => {
  assert.equal(filled({ const: true }).faults.length, 1);
  assert.deepEqual(filled({ const: true }, true), { value: true, faults: [] });
});

test("choices have the titles that a schema gives them", () => {
  const titled = fieldOf({ oneOf: [{ const: "a", title: "First" }, { const: "b", title: "Second" }] });
  const named = fieldOf({ enum: ["a", "b"], enumNames: ["First", "Second"] });
  for (const field of [titled, named]) assert.deepEqual(field.choices.map((one) => one.label), ["First", "Second"]);
});

test("references are looked for in the schema that has an id of its own", () => {
  const schema = object({ who: { $id: "urn:portico:answer:who", $defs: { Name: { type: "string", minLength: 2 } }, $ref: "#/$defs/Name" } });
  assert.equal(fieldOf(schema).members()[0].kind, "text");
  assert.deepEqual(filled(schema, { who: "x" }).faults.map((fault) => fault.path), ["/who"]);
});

test("what is no form becomes a text that must be JSON", () => {
  for (const schema of [{}, true, false, { $ref: "#/nowhere" }, { $ref: "https://example.org/schema" }, { type: "object" }, { not: {} }, { allOf: [{}, {}] }, { type: "array", items: [{}] }]) {
    assert.equal(kind(schema), "json", JSON.stringify(schema));
  }
  const field = fieldOf({});
  assert.equal(read(field, "{").faults.length, 1);
  assert.deepEqual(read(field, '{"a":[1]}').value, { a: [1] });
});

test("a schema that contains itself ends", () => {
  const tree = { $defs: { Node: object({ name: { type: "string" }, children: { type: "array", items: { $ref: "#/$defs/Node" } }, next: { $ref: "#/$defs/Node" } }, ["name"]) }, $ref: "#/$defs/Node" };
  assert.deepEqual(filled(tree, { name: "a", children: [{ name: "b" }] }).value, { name: "a", children: [{ name: "b" }] });
  assert.deepEqual(fieldOf({ $defs: { A: { $ref: "#/$defs/A" } }, $ref: "#/$defs/A" }).kind, "json");
  const endless = { $defs: { N: object({ n: { $ref: "#/$defs/N" } }) }, $ref: "#/$defs/N" };
  assert.ok(draftOf(fieldOf(endless)));
});

test("whole numbers that a browser cannot hold are refused, not rounded", () => {
  const field = fieldOf({ type: "integer" });
  assert.equal(read(field, "9007199254740993").faults.length, 1);
});

test("a member may be called __proto__", () => {
  const schema = JSON.parse('{"type":"object","properties":{"__proto__":{"type":"string"}},"required":["__proto__"]}');
  assert.equal(JSON.stringify(filled(schema, JSON.parse('{"__proto__":"x"}')).value), '{"__proto__":"x"}');
});
