"""DirectClient: `tools/call` of 2026-07-28 over streamable HTTP without the SDK. That revision has no sessions: a call is a POST.

Above: `connection.py`, which calls through it where there is one. Below: `wire.py`. Everything else (the listing, news, a call that
asks for input, what needs credentials or mirrored headers) stays with the SDK's client. Where this one cannot tell what an answer
means and the server has not begun the call, it declines, and the SDK's client sends it.
"""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
from mcp.shared.inbound import encode_header_value
from mcp.types import HEADER_MISMATCH, CallToolResult, InputRequiredResult
from pydantic import ValidationError
from pydantic_core import from_json

from portico.errors import MCPToolError, ToolError
from portico.mcp_bridge.calling.oversize import longest_message
from portico.mcp_bridge.calling.wire import Answer, BrokenWireError, NoAnswerError, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from portico.mcp_bridge.calling.envelope import Envelope
    from portico.mcp_bridge.calling.remote_tool import RemoteTool
    from portico.mcp_bridge.config import MCPServerConfig

DECLINED: Final = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 406, 407, 415, 421, 426})
"""Statuses of servers that have not begun the call: where to go, who may come, and that there is no such thing here."""
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OWN: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type", "accept", "te", "upgrade"})


class DeclinedError(Exception):
    """The call was not begun, and the SDK's client may know better."""


class DirectClient:
    """Calls the tools of one server over connections that it keeps, as many as there are calls at a time.

    Args:
        config: where it is. See `takes`.
        meta: what every request says about us: revision, client, capabilities.
        version: the revision.
        log: takes the server's log messages: level, logger, data.
    """

    def __init__(
        self, config: MCPServerConfig, meta: Mapping[str, Any], version: str, log: Callable[[str, str | None, Any], None]
    ) -> None:
        url = httpx2.URL(config.url or "")
        self._host = url.host
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = _tls() if url.scheme == "https" else None
        self._timeout = config.patience
        self._most = longest_message(config)
        self._meta = dict(meta)
        self._log = log
        own = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": version,
            "Mcp-Method": "tools/call",
        }
        lines = [f"{name}: {value}\r\n" for name, value in [*own.items(), *config.headers.items()]]
        self._head = b"POST " + url.raw_path + b" HTTP/1.1\r\n" + "".join(lines).encode("ascii")
        self._idle: list[Wire] = []
        self._wires: set[Wire] = set()
        self._calls = 0
        self._closed = False

    @staticmethod
    def takes(config: MCPServerConfig) -> bool:
        """Whether it can speak to that server: at a plain URL, with headers that are just that."""
        if config.transport != "streamable_http" or getattr(config, "auth", None) is not None:
            return False
        return not httpx2.URL(config.url or "").userinfo and all(
            _TOKEN.fullmatch(name) and _VALUE.fullmatch(value) and name.lower() not in _OWN
            for name, value in config.headers.items()
        )

    async def call(self, tool: RemoteTool, arguments: dict[str, Any], envelope: Envelope) -> CallToolResult | InputRequiredResult:
        """Call a tool once.

        Raises:
            DeclinedError: not begun.
            ToolError: arguments that are not JSON.
            BrokenWireError: the connection broke, or could not be made.
            NoAnswerError: what came is no answer.
            MCPToolError: the server's own error.
        """
        self._calls += 1
        envelope.exchange.request_id = str(self._calls)
        meta = {**self._meta, **envelope.meta}
        if envelope.progress is not None:
            meta["progressToken"] = self._calls
        params = {"name": tool.tool.name, "arguments": arguments, "_meta": meta}
        message = {"jsonrpc": "2.0", "id": self._calls, "method": "tools/call", "params": params}
        try:
            body = _ENCODER.encode(message).encode()
        except (TypeError, ValueError) as error:
            raise ToolError(f"The arguments of {tool.uri} are not JSON: {error}") from None
        name = encode_header_value(tool.tool.name).encode("ascii")
        request = b"%sMcp-Name: %s\r\nContent-Length: %d\r\n\r\n%s" % (self._head, name, len(body), body)
        wire = await self._wire()
        return _result(tool.uri, await wire.post(request, _Listener(envelope, self._log)))

    def close(self) -> None:
        """Close every connection; calls on their way break."""
        self._closed = True
        for wire in list(self._wires):
            wire.close()
        self._idle.clear()

    async def _wire(self) -> Wire:
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                return wire
            wire.close()
        try:
            async with asyncio.timeout(self._timeout):
                loop = asyncio.get_running_loop()
                _, wire = await loop.create_connection(self._new, self._host, self._port, ssl=self._tls)
        except TimeoutError:
            raise BrokenWireError(f"it cannot be reached within {self._timeout:g} s", sent=False) from None
        except OSError as error:  # also what TLS has to say
            raise BrokenWireError(f"it cannot be reached ({error.strerror or error})", sent=False) from error
        if self._closed:
            wire.close()
            raise BrokenWireError("the connection was given up", sent=False)
        return wire

    def _new(self) -> Wire:
        wire = Wire(self._freed, self._wires.discard, self._most)
        self._wires.add(wire)
        return wire

    def _freed(self, wire: Wire) -> None:
        if self._closed:
            wire.close()
        else:
            self._idle.append(wire)


class _Listener:
    """Takes the events of one answer apart: notifications go on, the response is what was waited for."""

    __slots__ = ("_envelope", "_log")

    def __init__(self, envelope: Envelope, log: Callable[[str, str | None, Any], None]) -> None:
        self._envelope = envelope
        self._log = log

    def __call__(self, data: str) -> bool:
        message = _parsed(data)
        method = message.get("method")
        if method is None:
            return True
        if method == "notifications/progress":  # only this call's can come here
            self._envelope.report(message.get("params"))
        elif method == "notifications/message" and isinstance(params := message.get("params"), dict):
            told = cast("dict[str, Any]", params)
            level, who = told.get("level"), told.get("logger")
            self._log(level if isinstance(level, str) else "info", who if isinstance(who, str) else None, told.get("data"))
        return False  # a request of the server is nothing that this revision has


def _result(uri: str, answer: Answer) -> CallToolResult | InputRequiredResult:
    if answer.status in DECLINED:
        raise DeclinedError
    try:
        message = _parsed(answer.body)
    except NoAnswerError:
        if answer.ok:
            raise
        raise NoAnswerError(f"it answered with status {answer.status} {_phrase(answer.status)}".rstrip()) from None
    result, error = message.get("result"), message.get("error")
    if isinstance(error, dict):
        told = cast("dict[str, Any]", error)
        text = told.get("message")
        if told.get("code") == HEADER_MISMATCH:
            raise DeclinedError
        raise MCPToolError(uri, text if isinstance(text, str) and text else "it answered an error without a text")
    if not isinstance(result, dict) or not answer.ok:
        raise NoAnswerError(f"it answered with status {answer.status} and neither a result nor an error")
    return _typed(cast("dict[str, Any]", result))


def _typed(result: dict[str, Any]) -> CallToolResult | InputRequiredResult:
    kind = result.get("resultType", "complete")
    try:
        if kind == "complete":
            return CallToolResult.model_validate(result, by_name=False)
        if kind == "input_required":
            return InputRequiredResult.model_validate(result, by_name=False)
    except ValidationError as error:
        raise NoAnswerError(f"its result breaks the protocol ({error.error_count()} faults)") from error
    raise NoAnswerError(f"its result is of the type {str(kind)[:50]!r}, which was not asked for")


def _parsed(data: str | bytes) -> dict[str, Any]:
    try:
        message: Any = from_json(data)
    except ValueError:
        raise NoAnswerError("its answer is not JSON") from None
    if not isinstance(message, dict):
        raise NoAnswerError("its answer is no JSON-RPC message")
    return cast("dict[str, Any]", message)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _tls() -> ssl.SSLContext:
    """The trust that the SDK's client has: the operating system's."""
    return httpx2.create_ssl_context()
