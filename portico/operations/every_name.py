"""EveryName: the JSON Schema of a type, for finding things in its values: each field under every name that it goes by.

The schema that callers read gives a field one name. A value may bear it under another: by the field's own name, by any of its
aliases, at the end of an alias path. Imports pydantic, and so is imported only when a contract needs it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pydantic import TypeAdapter
    from pydantic_core import core_schema


def schema_by_every_name(adapter: TypeAdapter[Any], mode: Literal["validation", "serialization"]) -> Mapping[str, Any]:
    """The schema of a type, with `{}` for what has none."""
    return adapter.json_schema(by_alias=False, mode=mode, schema_generator=EveryName)


class EveryName(GenerateJsonSchema):
    """Pydantic's generator, which names fields as they are called in Python, and here by their aliases too."""

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> dict[str, Any]:
        """The fields of a model."""
        found = super().model_fields_schema(schema)
        return _named(found, schema["fields"].items(), schema.get("computed_fields", []))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> dict[str, Any]:
        """The fields of a typed dict."""
        found = super().typed_dict_schema(schema)
        return _named(found, schema["fields"].items(), schema.get("computed_fields", []))

    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> dict[str, Any]:
        """The fields of a dataclass."""
        found = super().dataclass_args_schema(schema)
        return _named(found, ((about["name"], about) for about in schema["fields"]), schema.get("computed_fields", []))

    def json_or_python_schema(self, schema: core_schema.JsonOrPythonSchema) -> dict[str, Any]:
        """What differs in JSON. `Secret[int]` is such a type; of all the secret ones its schema alone does not say so."""
        found = super().json_or_python_schema(schema)
        serialize = cast("Any", schema.get("serialization", {})).get("function")
        hides = (getattr(serialize, "__module__", ""), getattr(serialize, "__name__", "")) == (
            "pydantic.types",
            "_serialize_secret",
        )
        return {**found, "writeOnly": True} if hides else found

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:  # noqa: ARG002  # pydantic's signature
        """A part that has no schema can be anything; the other parts can still be told."""
        return {}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Nobody is to read this schema."""


def _named(found: dict[str, Any], fields: Iterable[tuple[str, Any]], computed: Iterable[Any]) -> dict[str, Any]:
    """The schema of an object, with each of its properties under its field's other names too."""
    own: dict[str, Any] = found.get("properties", {})
    others = [
        _at(path, deepcopy(own[name]))
        for name, about in (*fields, *((about["property_name"], about) for about in computed))
        if name in own
        for path in _paths(about)
    ]
    return {**found, "allOf": [*found.get("allOf", []), *others]} if others else found


def _paths(about: Any) -> Iterator[list[str | int]]:
    """The ways to a field by its aliases: pydantic has a name, a path, or several paths."""
    for key in ("validation_alias", "serialization_alias", "alias"):
        alias: Any = about.get(key)
        if isinstance(alias, str):
            yield [alias]
        elif alias is not None:
            yield from alias if isinstance(alias[0], list) else [alias]


def _at(path: list[str | int], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that has such a value at the end of a path."""
    for step in reversed(path):
        schema = {"properties": {step: schema}} if isinstance(step, str) else {"items": schema}
    return schema
