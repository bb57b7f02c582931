"""`portico serve --reload`: a parent that keeps the port, and starts the server anew whenever its files were edited.

The parent binds the port and never closes it, so that who connects while one server ends and the next begins waits instead of
being refused. What cannot be served (`portico check`) replaces nothing. For development: the server itself, in `serve.py`, knows
only that its socket is given, and that it must not outlive who gave it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterable, Mapping

PATIENCE = 5.0
"""Seconds that a server may take to end by itself after its parent was killed."""
SUFFIXES = (".py", ".yaml", ".yml")
"""The files whose edits count."""


# --- the parent -------------------------------------------------------------------------------------------------------


def serve_and_reload(topology: Path, given: Mapping[str, Any], log_level: str) -> int:
    """Serve until a signal, anew after each edit. Returns the exit code of the last server.

    Args:
        topology: the file; it, and every Python and YAML file of its directory and below, is watched.
        given: the settings of the command line.
        log_level: of the servers.

    Raises:
        PorticoError: as of `portico serve`, for what is there at first.
    """
    from portico.app.loading import load_topology, server_settings
    from portico.app.server import bind
    from portico.app.settings import GatewayConfig

    settings = GatewayConfig.from_environ(os.environ, server_settings(load_topology(topology)), **given)
    settings.refuse_exposure()
    with bind(settings) as listener:
        return asyncio.run(_Reloader(topology, given, log_level, listener).run())


class _Reloader:
    """Keeps one server process."""

    def __init__(self, topology: Path, given: Mapping[str, Any], log_level: str, listener: socket.socket) -> None:
        self._topology = topology
        self._log_level = log_level
        self._listener = listener
        self._environ = {**os.environ, **_variables(given)}
        self._stop = asyncio.Event()
        self._server: Process | None = None
        self._lifeline, self._end_of_lifeline = os.pipe()  # the kernel closes ours when we end, however we do

    async def run(self) -> int:
        """Until a signal, or the end of the very first server by itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(group))
            await self._start(group)
            await self._stop.wait()
            return await self._server.wait() if self._server is not None else 0

    def _signalled(self, number: signal.Signals) -> None:
        """Hand it on: the server's session is its own, so that Ctrl-C reaches it once. A second one ends it at once."""
        self._stop.set()
        self._tell(number)

    def _tell(self, number: signal.Signals) -> None:
        if self._server is not None and self._server.returncode is None:
            with suppress(ProcessLookupError):
                self._server.send_signal(number)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        from watchfiles import DefaultFilter, awatch  # pyright: ignore[reportUnknownVariableType]  # an event of any library

        ignored = DefaultFilter()
        folder = self._topology.resolve().parent
        async for changes in awatch(
            folder, watch_filter=lambda change, path: path.endswith(SUFFIXES) and ignored(change, path), stop_event=self._stop
        ):
            await self._swap({str(Path(path).relative_to(folder)) for _, path in changes}, group)

    async def _swap(self, names: Iterable[str], group: asyncio.TaskGroup) -> None:
        changed = ", ".join(sorted(names))
        mistake = await self._check()
        if self._stop.is_set():
            return
        if mistake is not None:
            goes_on = self._server is not None and self._server.returncode is None
            typer.echo(f"{changed} changed, {'and what was served goes on' if goes_on else 'and nothing is served'}:", err=True)
            typer.echo(mistake.rstrip(), err=True)
            return
        typer.echo(f"{changed} changed: the server starts anew.", err=True)
        if self._server is not None:
            self._tell(signal.SIGTERM)
            await self._server.wait()
        if not self._stop.is_set():
            await self._start(group)

    async def _check(self) -> str | None:
        """What `portico check` complains about; None where it does not."""
        check = await self._spawn("check", str(self._topology), "--offline", stderr=asyncio.subprocess.PIPE)
        try:
            _, complaint = await check.communicate()
        finally:
            if check.returncode is None:
                check.kill()
        return None if check.returncode == 0 else complaint.decode(errors="replace")

    async def _start(self, group: asyncio.TaskGroup) -> None:
        supervised = f"{self._listener.fileno()},{self._lifeline}"
        fds = (self._listener.fileno(), self._lifeline)
        arguments = ("serve", str(self._topology), "--supervised", supervised, "--log-level", self._log_level)
        self._server = await self._spawn(*arguments, fds=fds)
        group.create_task(self._mourn(self._server))

    async def _mourn(self, server: Process) -> None:
        code = await server.wait()
        if server is self._server and not self._stop.is_set() and code != 0:
            typer.echo(f"The server has ended with code {code}. It starts anew when a file changes.", err=True)

    async def _spawn(self, *arguments: str, fds: tuple[int, ...] = (), stderr: int | None = None) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "portico",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=None if fds else asyncio.subprocess.DEVNULL,
            stderr=stderr,
            env=self._environ,
            pass_fds=fds,
            start_new_session=True,
        )


def _variables(given: Mapping[str, Any]) -> dict[str, str]:
    """Settings as variables of the environment, which `portico check` reads too."""
    return {
        f"PORTICO_{name.upper()}": ",".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else str(value)
        for name, value in given.items()
        if value is not None
    }


# --- the server -------------------------------------------------------------------------------------------------------


def inherited(supervised: str) -> socket.socket:
    """The listening socket that the parent gives, as `LISTENER,LIFELINE`; from now on this process ends when the parent does."""
    listener, lifeline = map(int, supervised.split(","))
    threading.Thread(target=_end_with, args=(lifeline,), name="lifeline", daemon=True).start()
    given = socket.socket(fileno=listener)
    given.setblocking(False)  # the socket module's own signature
    return given


def _end_with(lifeline: int) -> None:
    """In a thread, so that nothing that blocks the event loop makes an orphan of this process."""
    os.read(lifeline, 1)  # nobody writes: it returns when the other end is closed
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)
