"""DirectLines: answers plain `tools/call` messages over stdio in front of the SDK's server, whichever era their client opened.

Above: `stdio.py`, which shows it every line first and every message of the SDK's. Below: `plain_call.py`. What it does not take
goes to the SDK's server as it came; the opening of a connection always does, so that one place decides its era.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mcp.server.connection import Connection
from mcp.shared.dispatcher import coerce_request_id
from mcp.types import (
    CONNECTION_CLOSED,
    PROTOCOL_VERSION_META_KEY,
    InitializeRequestParams,
    JSONRPCRequest,
    JSONRPCResponse,
)

from portico.mcp_bridge.serving import log_levels
from portico.mcp_bridge.serving.back_channel import BackChannel, Questions
from portico.mcp_bridge.serving.exchanges import exchange_around, told_error
from portico.mcp_bridge.serving.going_on import rest_of
from portico.mcp_bridge.serving.lingering import Lingering
from portico.mcp_bridge.serving.plain_call import (
    METHOD,
    MODERN,
    Clients,
    asked,
    questions_for,
    read_legacy,
    read_modern,
    taken_back,
)
from portico.mcp_bridge.serving.printing import Printer
from portico.mcp_bridge.serving.serving_meter import error_type
from portico.runs.dispatcher import HandedOver

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server
    from mcp.types import JSONRPCMessage

    from portico.mcp_bridge.serving.line_writer import LineWriter
    from portico.mcp_bridge.serving.plain_call import Asked, PlainCall
    from portico.mcp_bridge.serving.served import Served
    from portico.runs.call import Call
    from portico.runs.call_observer import Exchange
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run


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
        self._lingering = Lingering(served.dispatcher)
        self._questions = Questions()
        self._opened = False
        self._version: str | None = None
        self._opening: JSONRPCRequest | None = None
        self._connection: Connection | None = None
        self._kinds: frozenset[str] | None = None
        self._calls: dict[int | str, tuple[asyncio.Task[None], PlainCall]] = {}

    def take(self, line: bytes) -> bool:
        """Whether a line is for nobody but this."""
        version = self._version
        if version is None:
            return False
        plain = read_modern(line, self._clients) if version == MODERN else read_legacy(line)
        if plain is None:
            return self._questions.hear(line) or self._take_back(line)
        found = asked(self._served, plain, plain.answerable if version == MODERN else self._kinds, {})
        if found is None:
            return False
        key = coerce_request_id(plain.request_id)
        if key in self._calls:
            return False
        self._calls[key] = self._tasks.create_task(self._answer(version, found)), plain
        return True

    def _take_back(self, line: bytes) -> bool:
        """Cancel the call that a client takes back. Returns whether it was one of these."""
        key = taken_back(line) if self._calls else None
        if key is None or key not in self._calls:
            return False
        self._calls[key][0].cancel()
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
        if self._version == MODERN:
            return
        if message.method == "initialize":
            self._opening, self._version = message, None
        elif message.method == log_levels.METHOD:
            self._kinds = None  # it is told what is logged, by the SDK's way

    def sent(self, message: JSONRPCMessage) -> None:
        """The SDK's server says something: with its answer to `initialize`, calls of the old era may come."""
        opening = self._opening
        if opening is None or not isinstance(message, JSONRPCResponse) or message.id != opening.id:
            return
        self._opening = None
        version: str = message.result["protocolVersion"]
        client = InitializeRequestParams.model_validate(opening.params, by_name=False)  # the SDK has accepted it
        none = BackChannel(opening.id, None, None)
        self._connection = Connection(none, protocol_version=version, client_params=client)
        self._kinds = questions_for(client.capabilities)
        self._version = version

    def close(self) -> None:
        """Its client has closed its side: what is in flight is cancelled, and answered as the SDK answers it."""
        for task, plain in self._calls.values():
            task.cancel()
            self._writer.put(self._printer.error(plain.request_id, CONNECTION_CLOSED, "Connection closed"))

    async def _answer(self, version: str, asked: Asked) -> None:
        """Make the call and write its end; what its client has taken back is not answered."""
        with exchange_around(self._served.dispatcher, asked.plain, version) as exchange:
            await self._make(version, asked, exchange)

    async def _make(self, version: str, asked: Asked, exchange: Exchange | None) -> None:
        printer, request_id = self._printer, asked.plain.request_id
        line = LineCall(asked.call, self._lingering.dispatcher)
        self._lingering.enter(line)
        began, failure = perf_counter(), None
        try:
            try:
                body = printer.reply(asked, version, await self._served.dispatcher.ask(asked.call))
            except HandedOver:
                body = printer.result(request_id, version, await self._rest(asked))
        except asyncio.CancelledError as cancelled:
            failure = cancelled
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the client is told its MCP form
            told_error(exchange, error)
            failure = error
            body = printer.failure(asked, version, error)
        finally:
            self._lingering.leave(line)
            del self._calls[coerce_request_id(request_id)]
            if (meter := self._served.meter) is not None:
                tool, traceparent = asked.plain.name, asked.call.traceparent
                meter.answered(METHOD, tool, error_type(failure), perf_counter() - began, traceparent)
        self._writer.put(body)

    async def _rest(self, asked: Asked) -> Any:
        """What the SDK's way makes of a call that takes long. Raises `MCPError`."""
        connection, questions = self._connection, self._questions
        if connection is None:
            channel = BackChannel(asked.plain.request_id, None, None)
            return await rest_of(self._served, asked, asked.plain.connection(), channel, None)
        channel = BackChannel(asked.plain.request_id, questions, self._tell)
        return await rest_of(self._served, asked, connection, channel, None)

    async def _tell(self, message: bytes) -> None:
        self._writer.put(message)


class LineCall:
    """One call over stdio, while it is handled."""

    __slots__ = ("_call", "_dispatcher")

    def __init__(self, call: Call, dispatcher: Dispatcher) -> None:
        self._call = call
        self._dispatcher = dispatcher

    @property
    def run(self) -> Run | None:
        """What becomes of it."""
        return self._call.run

    def linger(self) -> None:
        """It takes long: whoever awaits it is told so (`HandedOver`)."""
        self._dispatcher.hand_over(self._call)
