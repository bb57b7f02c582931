"""The MCP server over stdin and stdout, as Claude Desktop starts it. Nothing but the protocol goes to stdout.

Above: the command line, which enters `claimed_wire()` before it loads any of a user's code, and `serve_stdio` inside a running
runtime. It ends when the client closes stdin, and on SIGTERM or SIGINT; then the host stops the runtime.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from portico.mcp_bridge.pipes import read_lines, write_all
from portico.mcp_bridge.serving.served import Served
from portico.mcp_bridge.serving.server import build_server

if TYPE_CHECKING:
    from collections.abc import Generator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from portico.mcp_bridge.serving.options import ServingOptions
    from portico.runs.dispatcher import Dispatcher

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Wire:
    """The two descriptors that carry the protocol."""

    reads: int
    """Where the client's messages come from."""
    writes: int
    """Where ours go to."""


@contextmanager
def claimed_wire() -> Generator[Wire]:
    """Keep stdin and stdout for the protocol alone.

    Meanwhile `print`, and whatever else writes to descriptor 1, goes to stderr, also from child processes; descriptor 0 is empty.
    What was printed before and not yet written goes to stderr too.
    """
    wire = Wire(os.dup(STDIN), os.dup(STDOUT))
    stdout = sys.stdout
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, STDIN)
    os.close(empty)
    os.dup2(STDERR, STDOUT)
    stdout.flush()
    sys.stdout = sys.stderr
    try:
        yield wire
    finally:
        stdout.flush()
        sys.stdout = stdout
        os.dup2(wire.reads, STDIN)
        os.dup2(wire.writes, STDOUT)
        os.close(wire.reads)
        os.close(wire.writes)


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
                tasks.start_soon(_stop_on_signal, tasks.cancel_scope)
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


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


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
