"""Schemas: tools take and give JSON objects, operations any JSON. What is no object goes under one member of an object.

Pure: JSON Schema in, JSON Schema out. What a schema says beside `type: object` is handed on as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_OBJECT: Final[Mapping[str, Any]] = {"type": "object", "additionalProperties": True}
"""What a tool takes whose operation takes anything."""


def object_schema(schema: Mapping[str, Any], member: str) -> tuple[dict[str, Any], bool]:
    """The schema of an object, and whether it had to be made: then the described value stands under `member`."""
    if _describes_object(schema, schema, set()):
        return {**schema, "type": "object"}, False
    inner = dict(schema)
    definitions = inner.pop("$defs", None)
    outer: dict[str, Any] = {"type": "object", "properties": {member: inner}, "required": [member], "additionalProperties": False}
    if definitions is not None:
        outer["$defs"] = definitions  # references are counted from the root
    return outer, True


def _describes_object(schema: Mapping[str, Any], root: Mapping[str, Any], seen: set[str]) -> bool:
    """Whether nothing but an object can satisfy it."""
    if "type" in schema:
        return schema["type"] == "object"
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix("#/$defs/")
        if name in seen or name == reference:
            return False
        return _describes_object(root.get("$defs", {}).get(name, {}), root, {*seen, name})
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            choices = cast("list[Mapping[str, Any]]", schema[keyword])
            return bool(choices) and all(_describes_object(choice, root, seen) for choice in choices)
    return False
