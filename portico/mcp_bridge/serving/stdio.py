"""The MCP server over stdin and stdout, as Claude Desktop starts it. Nothing but the protocol goes to stdout.

Above: the command line, which enters `claimed_wire()` before it loads any of a user's code, and `serve_stdio` inside a running
runtime. It ends when the client closes stdin, and on SIGTERM or SIGINT; then the host stops the runtime.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from portico.mcp_bridge.pipes import read_lines, write_all
from portico.mcp_bridge.serving.served import Served
from portico.mcp_bridge.serving.server import build_server
from portico.mcp_bridge.wire import Wire, claimed_wire, stop_on_signal

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from portico.mcp_bridge.serving.options import ServingOptions
    from portico.runs.dispatcher import Dispatcher


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
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_receive, wire.reads, incoming)
        tasks.start_soon(_send, wire.writes, outgoing)
        await server.run(to_server, from_server, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _receive(fd: int, incoming: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
    async with incoming:
        async for line in read_lines(fd):
            try:
                message: SessionMessage | Exception = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
            except ValueError as error:
                message = error
            await incoming.send(message)


async def _send(fd: int, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with outgoing:
        async for message in outgoing:
            line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            await write_all(fd, line.encode() + b"\n")
