"""RemoteTool: a tool as an external server listed it. Checks arguments against its schema, before anything is sent.

The schema comes from a stranger: one that is broken, or that refers to elsewhere, checks nothing; the server checks then.
Nothing is ever fetched.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from portico.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcp.types import Tool

logger = logging.getLogger("portico.mcp")

MIRRORED = "x-mcp-header"
"""The keyword of a schema that asks for a value in a header."""
LONGEST_MESSAGE = 300
"""Characters of one fault's message; validators print whole values."""


class _Fault(Protocol):
    @property
    def absolute_path(self) -> Sequence[str | int]: ...
    @property
    def message(self) -> str: ...


class _Validator(Protocol):
    def iter_errors(self, instance: Any) -> Iterable[_Fault]: ...


class RemoteTool:
    """One tool of one listing."""

    __slots__ = ("_compiled", "_validator", "mirrored", "tool", "uri")

    def __init__(self, uri: str, tool: Tool) -> None:
        self.uri = uri
        self.tool = tool
        self.mirrored = MIRRORED in str(tool.input_schema)
        """Whether values of its arguments may stand in headers as well, which the SDK's client sees to."""
        self._validator: _Validator | None = None
        self._compiled = False

    @property
    def repeatable(self) -> bool:
        """Whether the server says that calling it twice does no harm."""
        hints = self.tool.annotations
        return hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)

    def given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments without those that are None and optional, where null is nothing that the schema takes.

        That is how Python leaves something out; a server would refuse it, or mirror it into a header.
        """
        if None not in arguments.values():
            return arguments
        schema = self.tool.input_schema
        listed: Any = schema.get("properties")
        members = cast("dict[str, Any]", listed) if isinstance(listed, dict) else {}
        required: Any = schema.get("required")
        needed = cast("list[Any]", required) if isinstance(required, list) else []
        return {
            name: value
            for name, value in arguments.items()
            if value is not None or name in needed or _takes_null(members.get(name))
        }

    def check(self, arguments: dict[str, Any]) -> None:
        """Raises `ToolError` with the path of every fault."""
        validator = self._compile()
        if validator is None:
            return
        try:
            faults = [_described(fault) for fault in validator.iter_errors(arguments)]
        except Exception as error:  # noqa: BLE001  # a stranger's schema: whatever it makes the validator raise
            logger.warning("the input schema of %s cannot be applied: %s", self.uri, error)
            self._validator = None
            return
        if faults:
            lines = [f"- {fault['path'] or 'the arguments'}: {fault['message']}" for fault in faults]
            raise ToolError("\n".join([f"The arguments of {self.uri} are not valid:", *lines]), errors=faults)

    def _compile(self) -> _Validator | None:
        if not self._compiled:
            self._compiled = True
            try:
                self._validator = _validator(self.tool.input_schema)
            except Exception as error:  # noqa: BLE001  # as above
                logger.warning("the input schema of %s is not valid, so its arguments go out unchecked: %s", self.uri, error)
        return self._validator


def _takes_null(schema: Any) -> bool:
    """Whether null may satisfy it: unless it says plainly that something else is wanted."""
    kind = cast("dict[str, Any]", schema).get("type") if isinstance(schema, dict) else None
    return not (isinstance(kind, str) and kind != "null") and not (isinstance(kind, list) and "null" not in kind)


def _validator(schema: dict[str, Any]) -> _Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415  # 60 ms that only a call to an external tool needs to pay
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    kind: Any = cast("Any", validator_for)(schema, default=Draft202012Validator)
    kind.check_schema(schema)
    nowhere: Any = cast("Any", Registry)()
    return kind(schema, registry=nowhere)


def _described(fault: _Fault) -> dict[str, str]:
    path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in fault.absolute_path)
    return {"path": path, "message": fault.message[:LONGEST_MESSAGE]}
