"""The MCP server over stdin and stdout, as Claude Desktop starts it. Nothing but the protocol goes to stdout.

Above: the command line, which enters `claimed_wire()` before it loads any of a user's code, and `serve_stdio` inside a running
runtime. It ends when the client closes stdin, and on SIGTERM or SIGINT; then the host stops the runtime.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, jsonrpc_message_adapter

from portico.mcp_bridge.pipes import MAX_LINE, CutLine, read_lines
from portico.mcp_bridge.serving.direct_lines import DirectLines
from portico.mcp_bridge.serving.line_writer import LineWriter
from portico.mcp_bridge.serving.message_guard import RefusedMessage, checked_message
from portico.mcp_bridge.serving.served import Served
from portico.mcp_bridge.serving.server import build_server
from portico.mcp_bridge.wire import Wire, claimed_wire, stop_on_signal

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.types import JSONRPCMessage

    from portico.mcp_bridge.serving.options import ServingOptions
    from portico.runs.dispatcher import Dispatcher

logger = logging.getLogger("portico.mcp")

LAST_WORDS = 1.0
"""Seconds for what is still to be written when the client has closed its side."""


async def serve_stdio(dispatcher: Dispatcher, wire: Wire | None = None, *, options: ServingOptions | None = None) -> None:
    """Serve one client until it closes its side, or SIGTERM or SIGINT comes. Calls in flight are cancelled then.

    Args:
        dispatcher: the one door, of a runtime that is started.
        wire: what carries the protocol; None claims stdin and stdout for as long as it serves.
        options: the settings of the server.
    """
    with nullcontext(wire) if wire is not None else claimed_wire() as carrier:
        async with anyio.create_task_group() as tasks:
            if threading.current_thread() is threading.main_thread():
                tasks.start_soon(stop_on_signal, tasks.cancel_scope)
            served = Served(dispatcher, options)
            with served.watching():
                await _serve(served, carrier)
            tasks.cancel_scope.cancel()


async def _serve(served: Served, wire: Wire) -> None:
    server = build_server(served)
    incoming, to_server = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    from_server, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    writer = LineWriter(wire.writes)
    async with anyio.create_task_group() as tasks, asyncio.TaskGroup() as calls:
        direct = DirectLines(served, server, writer, calls) if served.options.direct else None
        written = calls.create_task(_write(writer, tasks.cancel_scope))
        tasks.start_soon(_receive, wire.reads, incoming, writer, direct)
        tasks.start_soon(_send, writer, outgoing, direct)
        await server.run(to_server, from_server, server.create_initialization_options())
        if direct is not None:
            direct.close()
        with anyio.move_on_after(LAST_WORDS):
            await writer.flushed()
        written.cancel()
        tasks.cancel_scope.cancel()


async def _receive(
    fd: int, incoming: MemoryObjectSendStream[SessionMessage | Exception], writer: LineWriter, direct: DirectLines | None
) -> None:
    async with incoming:
        async for line in read_lines(fd, cut=True):
            await writer.room()
            if not line.strip() or (direct is not None and direct.take(line)):
                continue
            try:
                message = _message(line)
            except RefusedMessage as refused:
                writer.put(refused.answer)
                continue
            if direct is not None:
                direct.received(message)
            await incoming.send(SessionMessage(message))


def _message(line: bytes) -> JSONRPCMessage:
    """A line as a message. Raises `RefusedMessage` where it is none: that is said, and the next line is another."""
    if isinstance(line, CutLine):
        raise RefusedMessage(413, INVALID_REQUEST, f"A line has more than {MAX_LINE} bytes.")
    checked_message(line)
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        raise RefusedMessage(400, INVALID_REQUEST, "The line is no message of JSON-RPC.") from None


async def _write(writer: LineWriter, scope: anyio.CancelScope) -> None:
    """Write what there is to be written, until the client no longer reads."""
    try:
        await writer.run()
    except OSError:
        logger.info("the client has gone")
        scope.cancel()


async def _send(writer: LineWriter, outgoing: MemoryObjectReceiveStream[SessionMessage], direct: DirectLines | None) -> None:
    async with outgoing:
        async for message in outgoing:
            if direct is not None:
                direct.sent(message.message)
            writer.put(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode())
            await writer.room()
