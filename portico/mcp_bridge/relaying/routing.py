"""Routing: the headers that a request of the new era carries beside its body, taken from the body (MCP 2026-07-28, transports).

Above: the relay. It also learns here which arguments of which tools are repeated as `Mcp-Param-…`, from the lists that pass by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
    mcp_param_headers,
    x_mcp_header_map,
)
from mcp.types import PROTOCOL_VERSION_META_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMED: Final[Mapping[str, str]] = {
    **NAME_BEARING_METHODS,
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""By the method: which of its parameters is the name of what it asks for."""


def params_of(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a message; empty where it has none."""
    return object_in(message.get("params"))


def object_in(value: Any) -> Mapping[str, Any]:
    """What a stranger has sent as an object; empty where it is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def version_of(message: Mapping[str, Any]) -> str | None:
    """The revision that a message of the new era names; None for one of the old."""
    version = object_in(params_of(message).get("_meta")).get(PROTOCOL_VERSION_META_KEY)
    return version if isinstance(version, str) else None


class Routing:
    """What is known of the tools of one server."""

    def __init__(self) -> None:
        self._mirrored: dict[str, Mapping[tuple[str, ...], str]] = {}

    def knows(self, tool: str) -> bool:
        """Whether a tool has been listed."""
        return tool in self._mirrored

    def learn(self, result: Any) -> None:
        """Take note of the tools in the result of a `tools/list`."""
        tools = object_in(result).get("tools")
        for tool in cast("list[Any]", tools) if isinstance(tools, list) else []:
            name = object_in(tool).get("name")
            if isinstance(name, str):
                self._mirrored[name] = x_mcp_header_map(object_in(tool).get("inputSchema"))

    def headers(self, message: Mapping[str, Any], version: str) -> dict[str, str]:
        """The headers of a message of the new era."""
        method, params = str(message["method"]), params_of(message)
        headers = {MCP_PROTOCOL_VERSION_HEADER: encode_header_value(version), MCP_METHOD_HEADER: encode_header_value(method)}
        name = params.get(NAMED.get(method, ""))
        if isinstance(name, str):
            headers[MCP_NAME_HEADER] = encode_header_value(name)
        if method == "tools/call" and isinstance(name, str):
            headers.update(mcp_param_headers(self._mirrored.get(name, {}), object_in(params.get("arguments"))))
        return headers
