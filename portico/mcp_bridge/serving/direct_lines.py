"""DirectLines: answers plain `tools/call` messages over stdio in front of the SDK's server, whichever era their client opened.

Above: `stdio.py`, which shows it every line first and every message of the SDK's. Below: `plain_call.py`. What it does not take
goes to the SDK's server as it came; the opening of a connection always does, so that one place decides its era.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.shared.dispatcher import coerce_request_id
from mcp.types import CONNECTION_CLOSED, PROTOCOL_VERSION_META_KEY, JSONRPCRequest, JSONRPCResponse

from portico.mcp_bridge.serving.plain_call import MODERN, Clients, asked, can_be_asked, read_legacy, read_modern, taken_back
from portico.mcp_bridge.serving.printing import Printer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from mcp.server.lowlevel import Server
    from mcp.types import JSONRPCMessage

    from portico.mcp_bridge.serving.line_writer import LineWriter
    from portico.mcp_bridge.serving.plain_call import PlainCall
    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool
    from portico.runs.call import Call


class DirectLines:
    """The direct path of one connection.

    Args:
        served: what is served.
        server: whose answers its own must equal.
        writer: where its answers go.
        tasks: where its calls run; they are cancelled with it.
    """

    def __init__(self, served: Served, server: Server[Any], writer: LineWriter, tasks: asyncio.TaskGroup) -> None:
        self._served = served
        self._writer = writer
        self._tasks = tasks
        self._printer = Printer(server)
        self._clients = Clients()
        self._opened = False
        self._version: str | None = None
        self._talks: bool | None = None
        self._opening: JSONRPCRequest | None = None
        self._calls: dict[int | str, asyncio.Task[None]] = {}

    def take(self, line: bytes) -> bool:
        """Whether a line is answered here."""
        version = self._version
        if version is None:
            return False
        plain = read_modern(line, self._clients) if version == MODERN else read_legacy(line)
        if plain is None:
            key = taken_back(line) if self._calls else None
            if key is not None and key in self._calls:
                self._calls[key].cancel()
            return False
        found = asked(self._served, plain, plain.talks if version == MODERN else self._talks, {})
        if found is None:
            return False
        key = coerce_request_id(plain.request_id)
        if key in self._calls:
            return False
        self._calls[key] = self._tasks.create_task(self._answer(version, plain, *found))
        return True

    def received(self, message: JSONRPCMessage) -> None:
        """The SDK's server gets a message: its client's first request opens the connection."""
        if not isinstance(message, JSONRPCRequest):
            return
        if not self._opened:
            self._opened = True
            meta = (message.params or {}).get("_meta")
            if message.method != "initialize" and isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta:
                self._version = MODERN
                return
            self._opening = None
        if message.method == "initialize" and self._version != MODERN:
            self._opening, self._version = message, None

    def sent(self, message: JSONRPCMessage) -> None:
        """The SDK's server says something: with its answer to `initialize`, calls of the old era may come."""
        opening = self._opening
        if opening is not None and isinstance(message, JSONRPCResponse) and message.id == opening.id:
            self._opening = None
            version: str | None = message.result.get("protocolVersion")
            capabilities: Any = (opening.params or {}).get("capabilities")
            self._talks = can_be_asked(cast("Mapping[str, Any]", capabilities)) if isinstance(capabilities, dict) else None
            self._version = version

    def close(self) -> None:
        """Its client has closed its side: what is in flight is cancelled, and answered as the SDK answers it."""
        for request_id, task in self._calls.items():
            task.cancel()
            self._writer.put(self._printer.error(request_id, CONNECTION_CLOSED, "Connection closed"))

    async def _answer(self, version: str, plain: PlainCall, tool: ServedTool, call: Call) -> None:
        """Make the call and write its end; what its client has taken back is not answered."""
        request_id = plain.request_id
        try:
            body = self._printer.reply(request_id, version, tool, await self._served.dispatcher.ask(call))
        except Exception as error:  # noqa: BLE001  # whatever it is, the client is told its MCP form
            body = self._printer.failure(request_id, version, tool, error)
        finally:
            del self._calls[coerce_request_id(request_id)]
        self._writer.put(body)
