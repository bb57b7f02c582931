"""Schemas: JSON Schemas of many contracts under unique names in one document.

A contract's schema carries its definitions with it (`$defs`); a document has them once, in `components.schemas`. Equal definitions
share a name; different ones of one name get the agent's name in front. Pure: mappings in, mappings out.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Schema = dict[str, Any]

LOCAL = "#/$defs/"
"""Where pydantic's references lead."""
HOISTED = "#/components/schemas/"
"""Where the document's lead."""
_DATA = frozenset({"const", "default", "enum", "example", "examples"})
"""Keywords whose values are data, in which a `$ref` is no reference."""
_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords whose values are schemas by name."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


class Schemas:
    """The schemas of one document."""

    def __init__(self, taken: Mapping[str, Any]) -> None:
        """`taken`: the schemas that are there already, by name."""
        self.by_name: dict[str, Any] = dict(taken)
        self._known: dict[str, str] = {}
        self._classes = {_class_name(name) for name in taken}

    def put(self, schema: Mapping[str, Any], owner: str, title: str | None = None) -> Schema:
        """Take a schema in, and return what stands for it in the document.

        Args:
            schema: with its `$defs`.
            owner: whose it is; goes in front of a name that is taken.
            title: under which name the schema itself is kept; None to have it inline.
        """
        definitions = definitions_of(schema)
        top = without_definitions(schema)
        if title is None:
            return self._hoist(top, definitions, owner)
        return {"$ref": HOISTED + self._name(title, {title: top, **definitions}, owner)}

    def _hoist(self, schema: Mapping[str, Any], definitions: Mapping[str, Any], owner: str) -> Schema:
        names = {name: self._name(name, definitions, owner) for name in _reachable(schema, definitions)}
        return renamed(schema, names)

    def _name(self, name: str, definitions: Mapping[str, Any], owner: str) -> str:
        """The name in the document of one definition; takes it in where it is new."""
        identity = _identity(name, definitions)
        if identity not in self._known:
            free = self._free(name, owner)
            self._known[identity] = free
            self.by_name[free] = {}  # holds the place: a definition may refer to itself
            hoisted = self._hoist(definitions[name], definitions, owner)
            # Generators name classes by titles: where the name is another, the title is too.
            self.by_name[free] = {**hoisted, "title": free} if "title" in hoisted and free != _safe(name) else hoisted
        return self._known[identity]

    def _free(self, name: str, owner: str) -> str:
        """A name that no other comes near: `Order_` and `Order` would be one class of a generated client."""
        name, longer = _safe(name), _safe(f"{owner}.{name}")
        candidate, number = name, 1
        while _class_name(candidate) in self._classes:
            candidate = longer if number == 1 else f"{longer}.{number}"
            number += 1
        self._classes.add(_class_name(candidate))
        return candidate


def _safe(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name)


def _class_name(name: str) -> str:
    """What is left of a name where only letters and digits count."""
    return re.sub(r"[\W_]+", "", name).lower()


def definitions_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The definitions that a schema carries."""
    return schema.get("$defs", {})


def without_definitions(schema: Mapping[str, Any]) -> Schema:
    """The schema alone."""
    return {key: value for key, value in schema.items() if key != "$defs"}


def without_null(schema: Mapping[str, Any]) -> Schema:
    """The schema of a value that can be left out but cannot be null: a header's, a query parameter's."""
    kinds: list[Mapping[str, Any]] = schema.get("anyOf", [])
    some = [kind for kind in kinds if kind.get("type") != "null"]
    if len(some) == len(kinds):
        return dict(schema)
    rest = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    return {**some[0], **rest} if len(some) == 1 else {**rest, "anyOf": some}


def resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema that is only a reference refers to; else itself."""
    while isinstance(reference := schema.get("$ref"), str) and reference.startswith((LOCAL, HOISTED)):
        schema = definitions[reference.rpartition("/")[2]]
    return schema


def renamed(schema: Mapping[str, Any], names: Mapping[str, str]) -> Schema:
    """A copy of a schema whose references lead into the document."""

    def reference(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(LOCAL):
            return HOISTED + names[value.removeprefix(LOCAL)]
        return value

    def copied(key: str, value: Any) -> Any:
        if key in _DATA:
            return value
        if key == "$ref":
            return reference(value)
        if key == "discriminator" and "mapping" in value:
            return {**value, "mapping": {tag: reference(target) for tag, target in value["mapping"].items()}}
        if key in _BY_NAME:
            return {name: sub(one) for name, one in value.items()}
        if isinstance(value, list):
            return [sub(item) for item in cast("list[Any]", value)]
        return sub(value)

    def sub(value: Any) -> Any:
        return renamed(cast("Schema", value), names) if isinstance(value, dict) else value

    return {key: copied(key, value) for key, value in schema.items()}


def _references(schema: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to. Data that look like a reference do no harm: they name nothing."""
    if isinstance(schema, dict):
        for key, value in cast("Schema", schema).items():
            if key == "$ref" and isinstance(value, str):
                yield value.removeprefix(LOCAL)
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for item in cast("list[Any]", schema):
            yield from _references(item)


def _reachable(schema: Any, definitions: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name in _references(schema):
        if name in definitions and name not in found:
            found.append(name)
    return found


def _identity(name: str, definitions: Mapping[str, Any]) -> str:
    """What two definitions have in common that mean the same: their text and that of all they lead to."""
    closure, waiting = dict[str, Any](), [name]
    while waiting:
        one = waiting.pop()
        if one not in closure:
            closure[one] = definitions[one]
            waiting += _reachable(definitions[one], definitions)
    return json.dumps([name, closure], sort_keys=True, default=str)
