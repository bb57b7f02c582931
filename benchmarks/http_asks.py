"""Asks over HTTP: bare ASGI, plain FastAPI and Portico on the same uvicorn with the same client, in turn."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rounds import compared, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
APPS = {"bare ASGI": "bare_asgi:app", "FastAPI with models": "fastapi_app:app", "Portico ask with contract": "portico_app:app"}


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on a core of its own, where there is more than one: server and client then do not share one."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 else command


@contextlib.contextmanager
def served(app: str) -> Iterator[int]:
    """Serve an application on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    arguments = ["-m", "uvicorn", app, "--app-dir", str(HERE), "--port", str(port), "--no-access-log", "--log-level", "warning"]
    server = subprocess.Popen(pinned(0, [sys.executable, *arguments]))  # noqa: S603  # our own command
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def load(port: int, connections: int, seconds: float) -> float:
    """Requests per second."""
    command = [sys.executable, str(HERE / "load.py"), "127.0.0.1", str(port), str(connections), str(seconds)]
    done = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True)  # noqa: S603  # our own command
    return json.loads(done.stdout)["rate"]


def main(rounds: int = 5, seconds: float = 2.0, connections: int = 32) -> bool:
    """Print the table. Returns whether the target was met."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(served(app)) for name, app in APPS.items()}
        figures = compared({name: lambda port=port: load(port, connections, seconds) for name, port in ports.items()}, rounds)
    return print_table(f"HTTP asks, {connections} connections", figures, "bare ASGI", {"Portico ask with contract": 0.5})


if __name__ == "__main__":
    main()
