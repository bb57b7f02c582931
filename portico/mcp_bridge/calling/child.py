"""A child process as an MCP transport: starts the server, carries lines, notices its death, and leaves nothing of it behind.

In place of the SDK's own: that one leaves descendants of a server that ended by itself, hears of a death only by the end of a
pipe that a grandchild may hold open, and gives no hold on stderr. Linux: a descriptor of the process (pidfd) tells of its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import IO, TYPE_CHECKING, Final

import anyio
import anyio.abc
from mcp.shared.message import SessionMessage
from mcp.types import CONNECTION_CLOSED, ErrorData, JSONRPCError, JSONRPCRequest, jsonrpc_message_adapter

from portico.mcp_bridge.calling.bubblewrap import sandboxed
from portico.mcp_bridge.calling.command import found_program
from portico.mcp_bridge.calling.environment import environment_of
from portico.mcp_bridge.calling.oversize import id_in, longest_message, oversized
from portico.mcp_bridge.calling.remote import NOT_SENT
from portico.mcp_bridge.pipes import CutLine, is_readable, read_lines, unread, write_some

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncGenerator

    from mcp.client._transport import TransportStreams
    from mcp.types import JSONRPCMessage, RequestId

    from portico.mcp_bridge.calling.connection import Life
    from portico.mcp_bridge.config import MCPServerConfig

FLUSH: Final = 0.5
"""Seconds for the last messages to be written before stdin closes."""
GRACE: Final = 2.0
"""Seconds that the server has to end after its stdin was closed."""
TERM_GRACE: Final = 1.0
"""Seconds that its process group has to end after SIGTERM, before SIGKILL."""
LAST_BREATH: Final = 0.2
"""Seconds from the end of its output to the end of its process, where that is why."""
EXITING: Final = 0x4
"""The kernel's flag of a task on its way out (PF_EXITING)."""
KILL_PENDING: Final = 1 << (signal.SIGKILL - 1)
"""The bit of SIGKILL among the pending signals."""
LARGEST_PIPE: Final = 1024 * 1024
"""Bytes that a pipe holds at most (pipe(7): pipe-max-size)."""
LONGEST_LOG_LINE: Final = 2000
"""Characters of one line of stderr in the log."""


@asynccontextmanager
async def child(config: MCPServerConfig, life: Life, logger: logging.Logger) -> AsyncGenerator[TransportStreams]:
    """The streams of a server that is started now and gone, with all its descendants, at the end.

    Raises:
        CommandError: the command cannot be run, or not in the sandbox that is asked for.
        OSError: the system does not start it.
    """
    line = await anyio.to_thread.run_sync(_line, config)  # directories are read, and bubblewrap is tried
    process = subprocess.Popen(  # noqa: ASYNC220, S603  # starting takes a millisecond; the command is the configuration's, and no shell reads it
        line,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_of(config),
        cwd=config.cwd,
        start_new_session=True,
        bufsize=0,
    )
    run = _Child(
        process, life, logger, longest_message(config)
    )  # no await before the `try`: a cancellation here would leave the process behind
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield run.open(tasks)
            finally:
                with anyio.CancelScope(shield=True):
                    await run.stop()
                tasks.cancel_scope.cancel()
    finally:
        run.close()


def _line(config: MCPServerConfig) -> list[str]:
    program = found_program(config)
    return [program, *config.argv[1:]] if config.box is None else sandboxed(config, config.box, program)


class _Child:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[bytes], life: Life, logger: logging.Logger, most: int) -> None:
        self._process = process
        self._most = most
        self._life = life
        self._logger = logger
        self._pidfd = os.pidfd_open(process.pid)
        self._stat = os.open(f"/proc/{process.pid}/stat", os.O_RDONLY)
        self._sent = 0
        self._requests: deque[tuple[int, RequestId]] = deque()
        self._parted = False
        self._heard_all = anyio.Event()
        self._input_closed = anyio.Event()
        self._written = anyio.Event()
        self._writing = anyio.CancelScope()
        self._from_server, self._read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        self._write, self._to_server = anyio.create_memory_object_stream[SessionMessage](0)

    def open(self, tasks: anyio.abc.TaskGroup) -> TransportStreams:
        """Begin to carry."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(_fd(pipe), False)
        self._life.died = self._died
        for carry in (self._watch, self._watch_input, self._carry_out, self._carry_in, self._log):
            tasks.start_soon(carry)
        return self._read, self._write

    def _died(self) -> str | None:
        """How the process ended; None while it lives. Looks without reaping it."""
        try:
            end = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is None:
                return "its process is being killed" if self._is_doomed() else None
        except (ChildProcessError, ProcessLookupError):  # reaped already
            return "its process ended"
        if end.si_code == os.CLD_EXITED:
            return f"its process ended with exit code {end.si_status}"
        return f"its process was killed by {signal.Signals(end.si_status).name}"

    def _is_doomed(self) -> bool:
        """Whether it was killed and is about to end (proc_pid_stat(5)). Such a process may still take what it will never see."""
        fields = os.pread(self._stat, 1024, 0).rpartition(b")")[2].split()
        state, flags, pending = fields[0], int(fields[6]), int(fields[28])
        return state in (b"Z", b"X") or bool(flags & EXITING) or bool(pending & KILL_PENDING)

    async def _watch(self) -> None:
        await anyio.wait_readable(self._pidfd)
        with anyio.move_on_after(LAST_BREATH):  # what it said last counts, unless a descendant holds the pipe
            await self._heard_all.wait()
        await self._part("its process ended")

    async def _watch_input(self) -> None:
        await self._input_closed.wait()
        with anyio.move_on_after(LAST_BREATH):
            await self._heard_all.wait()
        await self._part("it closed its input")

    async def _part(self, reason: str) -> None:
        """It is over: hand back the requests of which the server has not read a byte, since they can be sent again; then tell."""
        if not self._parted:
            self._parted = True
            reason = self._died() or reason
            read = self._sent - unread(_fd(self._process.stdin))
            for start, request in self._requests:
                if start >= read:
                    await self._hand_back(request, reason)
            self._life.end(reason)

    async def _hand_back(self, request: RequestId, reason: str) -> None:
        error = ErrorData(code=CONNECTION_CLOSED, message=reason, data={NOT_SENT: True})
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._from_server.send(SessionMessage(JSONRPCError(jsonrpc="2.0", id=request, error=error)))

    async def _carry_out(self) -> None:
        try:
            with self._writing:
                async for message in self._to_server:
                    await self._remember(message.message)
                    if not self._input_closed.is_set():
                        await self._send(message.message)
        finally:
            self._to_server.close()
            self._written.set()

    async def _send(self, message: JSONRPCMessage) -> None:
        left = memoryview(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        try:
            while left:
                count = await write_some(_fd(self._process.stdin), left)
                self._sent += count
                left = left[count:]
        except OSError:
            self._input_closed.set()

    async def _remember(self, message: JSONRPCMessage) -> None:
        """Where in the stream of bytes a request begins; those that no pipe can still hold are forgotten."""
        if isinstance(message, JSONRPCRequest):
            self._requests.append((self._sent, message.id))
            while self._requests[0][0] < self._sent - LARGEST_PIPE:
                self._requests.popleft()
            if self._parted:
                await self._hand_back(message.id, "it is gone")

    async def _carry_in(self) -> None:
        heard = True
        async with self._from_server:
            async for line in read_lines(_fd(self._process.stdout), self._most, cut=True):
                if heard:  # else read on, so that a server which still writes can end
                    heard = await self._hand_on(line)
            await self._ended_within(LAST_BREATH)
            await self._part("it closed its output")
            self._heard_all.set()

    async def _hand_on(self, line: bytes) -> bool:
        if isinstance(line, CutLine):
            self._logger.warning("wrote a message of more than %d bytes, which is not read", self._most)
            return await self._hand_on_error(id_in(line, line.tail))
        try:
            message = SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            if line.strip():
                self._logger.warning("wrote to stdout what is no MCP message: %s", _shown(line))
            return True
        try:
            await self._from_server.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True

    async def _hand_on_error(self, request: RequestId | None) -> bool:
        """In place of an answer that is too long. Where nobody can tell whose it is, the connection cannot be trusted any more."""
        if request is None:
            self._life.end(f"it wrote a message of more than {self._most} bytes")
            return True
        error = JSONRPCError(jsonrpc="2.0", id=request, error=ErrorData(**oversized(self._most)))
        return await self._hand_on(error.model_dump_json(by_alias=True, exclude_unset=True).encode())

    async def _log(self) -> None:
        async for line in read_lines(_fd(self._process.stderr), cut=True):  # to the end: a full pipe would stop the server
            self._logger.info("%s", _shown(line))

    async def stop(self) -> None:
        """End it: close stdin, wait, SIGTERM, wait, SIGKILL; the whole group, so that no descendant stays. Then reap it."""
        self._parted = True
        self._read.close()
        self._write.close()
        with anyio.move_on_after(FLUSH):
            await self._written.wait()
        self._writing.cancel()
        await self._written.wait()
        _close(self._process.stdin)
        if not await self._ended_within(GRACE):
            self._signal(signal.SIGTERM)
            await self._ended_within(TERM_GRACE)
        self._signal(signal.SIGKILL)  # it was not reaped yet, so the number of its group is still its own
        if not await self._ended_within(TERM_GRACE) or self._process.poll() is None:
            self._logger.warning("its process %d does not end, though it was killed", self._process.pid)

    def close(self) -> None:
        """Give back the descriptors, when nothing reads them any more."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(pipe)
        os.close(self._pidfd)
        os.close(self._stat)

    async def _ended_within(self, seconds: float) -> bool:
        until = anyio.current_time() + seconds
        while not is_readable(self._pidfd):  # `_watch` may wait for it already, or may have been cancelled
            if anyio.current_time() >= until:
                return False
            await anyio.sleep(0.005)
        return True

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # nobody is left, or one who may not be signalled
            os.killpg(self._process.pid, number)


def _fd(pipe: IO[bytes] | None) -> int:
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe.fileno()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def _shown(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()[:LONGEST_LOG_LINE]
