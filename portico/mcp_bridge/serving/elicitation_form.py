"""Form: a JSON Schema as what an elicitation can ask for: a flat object of texts, numbers, yes or no, and choices.

What is no object stands under one member. What a form cannot have (objects in objects, lists of objects, alternatives) is refused
with a sentence. Rules: "Elicitation" of the Model Context Protocol, SEP-1034 (defaults) and SEP-1330 (choices).
Above: `input_requests.py`. Nothing here knows runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBER: Final = "answer"
"""The member that holds an answer which is no object."""

_COMMON: Final = frozenset({"type", "title", "description", "default"})
_KEPT: Final[Mapping[str, frozenset[str]]] = {
    "string": _COMMON | {"minLength", "maxLength", "format", "pattern", "enum", "enumNames", "oneOf"},
    "number": _COMMON | {"minimum", "maximum"},
    "integer": _COMMON | {"minimum", "maximum"},
    "boolean": _COMMON,
    "array": _COMMON | {"minItems", "maxItems", "items"},
}
"""What a form's member may say, by its type. The rest is checked when the answer has come."""
_FORMATS: Final = frozenset({"email", "uri", "date", "date-time"})


@dataclass(frozen=True, slots=True)
class Form:
    """What a client is shown, and how its answer is read."""

    schema: dict[str, Any]
    """The `requestedSchema`."""
    wrapped: bool
    """Whether the answer stands under one member."""
    integers: frozenset[str]
    """Members that are whole numbers: some clients send 3.0 for 3."""

    def value(self, content: Mapping[str, Any]) -> Any:
        """The answer that a client's content stands for. A member that is empty where none is needed is left out."""
        needed = self.schema.get("required", ())
        said = {name: value for name, value in content.items() if value is not None or name in needed}
        for name in self.integers & said.keys():
            value = said[name]
            if isinstance(value, float) and value.is_integer():
                said[name] = int(value)
        return said.get(MEMBER) if self.wrapped else said


def form_of(schema: Mapping[str, Any] | None) -> Form:
    """The form of a schema; None is anything: a text. Raises `ValueError` with what does not fit into a form."""
    root = _resolved(schema or {"type": "string"}, schema or {}, frozenset())
    if root.get("type") == "object" or "properties" in root:
        members = cast("dict[str, Any]", root.get("properties", {}))
        needed = [name for name in root.get("required", ()) if name in members]
        form = {name: _member(f"/{name}", member, schema or {}) for name, member in members.items()}
        wrapped = False
    else:
        form, needed, wrapped = {MEMBER: _member("", root, schema or {})}, [MEMBER], True
    flat: dict[str, Any] = {"type": "object", "properties": form}
    if needed:
        flat["required"] = needed
    return Form(flat, wrapped, frozenset(name for name, member in form.items() if member.get("type") == "integer"))


def _member(path: str, schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    found = _resolved(cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}, root, frozenset())
    where = f"`{path}`" if path else "it"
    kind = _type_of(found)
    if kind is None:
        raise ValueError(f"{where} is neither a text, a number, yes or no, nor a choice")
    shown = {key: value for key, value in found.items() if key in _KEPT[kind]}
    shown["type"] = kind
    if kind == "array":
        shown["items"] = _choices(where, found, root)
    elif kind == "string":
        if "const" in found:
            shown["enum"] = [found["const"]]
        if shown.get("format") not in _FORMATS:
            shown.pop("format", None)
    if shown.get("default", "") is None:
        del shown["default"]
    return shown


def _type_of(schema: Mapping[str, Any]) -> str | None:
    kind = schema.get("type")
    if kind is None:
        values = schema.get("enum", [one["const"] for one in schema.get("oneOf", ()) if "const" in one])
        values = [*values, *([schema["const"]] if "const" in schema else [])]
        if values and all(isinstance(value, str) for value in values):
            return "string"
        if values and all(isinstance(value, bool) for value in values):
            return "boolean"
        return "string" if not schema.keys() - _COMMON else None
    if kind == "string" and "oneOf" in schema and not all("const" in one for one in schema["oneOf"]):
        return None
    return kind if isinstance(kind, str) and kind in _KEPT else None


def _choices(where: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """The items of a choice of several: texts that are listed."""
    items = _resolved(schema.get("items") or {}, root, frozenset())
    named = items.get("anyOf", items.get("oneOf"))
    if isinstance(named, list) and all("const" in cast("dict[str, Any]", one) for one in cast("list[Any]", named)):
        return {"anyOf": named}
    values = cast("list[Any]", items.get("enum", []))
    if not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{where} is a list whose items are not chosen among given texts")
    return {"type": "string", "enum": values}


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any], seen: frozenset[str]) -> dict[str, Any]:
    """A schema without what leads to another one: references, `allOf` of one, and `null` as the other possibility."""
    found = dict(schema)
    target = found.pop("$ref", None)
    if isinstance(target, str) and target not in seen:
        found = {**_resolved(_at(target, root), root, seen | {target}), **found}
    for word in ("allOf", "anyOf", "oneOf"):
        parts = found.get(word)
        if not isinstance(parts, list) or all("const" in part for part in cast("list[dict[str, Any]]", parts)):
            continue
        rest = [part for part in cast("list[dict[str, Any]]", parts) if part.get("type") != "null"]
        if len(rest) == 1:
            del found[word]
            found = {**_resolved(rest[0], root, seen), **found}
    kind = found.get("type")
    if isinstance(kind, list):
        kinds = [one for one in cast("list[str]", kind) if one != "null"]
        found["type"] = kinds[0] if len(kinds) == 1 else kinds
    return found


def _at(target: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    place: Any = root
    for part in target.removeprefix("#/").split("/"):
        if not isinstance(place, dict):
            return {}
        place = cast("dict[str, Any]", place).get(part.replace("~1", "/").replace("~0", "~"))
    return cast("dict[str, Any]", place) if isinstance(place, dict) else {}
