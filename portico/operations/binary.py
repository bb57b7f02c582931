"""Binary: bytes in contracts, which stand as base64 in JSON.

Pydantic writes `bytes` as UTF-8 text unless a model says otherwise, and what is no text could not be sent at all. A model that says
so itself (`val_json_bytes` in its config) keeps its own way, and secret bytes stay text. Above: `contract.py`, which compiles with
this only where a type has bytes. Imports pydantic, and so is imported only when a contract is compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from pydantic.json_schema import GenerateJsonSchema
from pydantic.types import SecretBytes
from pydantic_core import SchemaSerializer, SchemaValidator

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import core_schema

BASE64: Final = "base64"
_CONFIG: Final[Any] = {"val_json_bytes": BASE64, "ser_json_bytes": BASE64}
_CONFIGURED: Final = frozenset({"model", "dataclass", "typed-dict"})
"""The schemas that have a config of their own."""
_LEFT_ALONE: Final = frozenset({"cls", "config", "function", "metadata", "ref", "schema_ref", "serialization"})
"""What of a schema is no schema."""


def has_bytes(adapter: TypeAdapter[Any]) -> bool:
    """Whether somewhere in a type are bytes that no model writes in a way of its own."""
    return _has_bytes(adapter.core_schema)


def is_bytes(adapter: TypeAdapter[Any]) -> bool:
    """Whether a type is bytes as a whole, or None."""
    schema: Any = adapter.core_schema
    while schema["type"] == "nullable":
        schema = schema["schema"]
    return schema["type"] == "bytes"


def compiled(adapter: TypeAdapter[Any]) -> tuple[SchemaValidator, SchemaSerializer]:
    """The validator and the serializer of a type, with base64 for its bytes in JSON."""
    schema = _with_base64(adapter.core_schema)
    # The models' own compiled parts, which pydantic would take over, read bytes as UTF-8.
    return SchemaValidator(schema, _CONFIG, _use_prebuilt=False), SchemaSerializer(schema, _CONFIG, _use_prebuilt=False)


class BinarySchema(GenerateJsonSchema):
    """Pydantic's generator of JSON Schemas, which says that bytes are base64 (RFC 4648 §4 and §5; replies have the latter)."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> dict[str, Any]:
        """The schema of bytes. The length of the text is another than theirs, and so is not told."""
        if self._config.config_dict.get("val_json_bytes", BASE64) != BASE64:
            return super().bytes_schema(schema)
        return {"type": "string", "contentEncoding": BASE64 if self.mode == "validation" else "base64url"}


def without_encoded_secrets(schema: Any) -> Any:
    """A schema in which secret bytes are text again: the generator cannot tell them from others."""
    if isinstance(schema, list):
        return [without_encoded_secrets(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, Any]", schema)
    secret = members.get("format") == "password"
    return {name: without_encoded_secrets(value) for name, value in members.items() if not (secret and name == "contentEncoding")}


def _secret(schema: dict[str, Any]) -> bool:
    function: Any = schema.get("function")
    return schema.get("type") == "function-after" and function.get("function") is SecretBytes


def _own_way(schema: dict[str, Any]) -> bool:
    return schema.get("type") in _CONFIGURED and "val_json_bytes" in (schema.get("config") or {})


def _has_bytes(schema: Any) -> bool:
    if isinstance(schema, list | tuple):
        return any(_has_bytes(item) for item in cast("list[Any]", schema))
    if not isinstance(schema, dict) or _secret(cast("dict[str, Any]", schema)) or _own_way(cast("dict[str, Any]", schema)):
        return False
    members = cast("dict[str, Any]", schema)
    return members.get("type") == "bytes" or any(_has_bytes(value) for name, value in members.items() if name not in _LEFT_ALONE)


def _with_base64(schema: Any) -> Any:
    if isinstance(schema, list | tuple):
        items = [_with_base64(item) for item in cast("list[Any]", schema)]
        return tuple(items) if isinstance(schema, tuple) else items
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, Any]", schema)
    if _own_way(members):
        return members
    if _secret(members):
        text = {"type": "function-after", "function": {"type": "no-info", "function": str.encode}, "schema": {"type": "str"}}
        return {**members, "schema": {"type": "json-or-python", "json_schema": text, "python_schema": members["schema"]}}
    made = {name: value if name in _LEFT_ALONE else _with_base64(value) for name, value in members.items()}
    if members.get("type") in _CONFIGURED:
        made["config"] = {**(members.get("config") or {}), **_CONFIG}
    return made
