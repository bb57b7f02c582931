"""Asks over HTTP: bare ASGI and plain FastAPI on uvicorn, Portico as `portico serve` runs it (uvicorn too), in turn.

The client is wrk where it is installed (Debian: `apt-get install wrk`). Without it, `load.py` stands in: it is written in Python
and so the limit itself, which flatters the ratios; the heading says which one measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rounds import compared, print_table

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).parent
UVICORN = ["-m", "uvicorn", "--no-access-log", "--log-level", "warning", "--app-dir", str(HERE)]
PORTICO = ["-m", "portico", "serve", str(HERE / "topology.yaml"), "--log-level", "warning"]
PLAIN, GUARDED = "Portico ask with contract", "the same, with an API key and a rate limit"
SERVERS = {
    "bare ASGI": [*UVICORN, "bare_asgi:app"],
    "FastAPI with models": [*UVICORN, "fastapi_app:app"],
    PLAIN: PORTICO,
    GUARDED: PORTICO,
}
KEY = "a-key-that-opens-nothing-else"
GUARDS = {"PORTICO_API_KEY": KEY, "PORTICO_RATE_LIMIT": "100000000/second"}
"""Everybody is asked for a key, and nobody is refused: it is the counting that is measured."""
SCRIPT = f"""wrk.method = "POST"; wrk.body = '{{"text": "hello"}}'
wrk.headers["Content-Type"] = "application/json"; wrk.headers["Authorization"] = "Bearer {KEY}"
"""


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on a core of its own, where there is more than one: server and client then do not share one."""
    return ["taskset", "-c", str(core), *command] if (os.cpu_count() or 1) > 1 and shutil.which("taskset") else command


@contextlib.contextmanager
def served(arguments: list[str], **settings: str) -> Generator[int]:
    """Serve an application on a free port: the port. `settings`: more variables of its environment."""
    with serving(arguments, **settings) as (port, _):
        yield port


@contextlib.contextmanager
def serving(arguments: list[str], **settings: str) -> Generator[tuple[int, int]]:
    """The same: the port and the process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = pinned(0, [sys.executable, *arguments, "--port", str(port)])
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **settings}) as server:  # our own command
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield port, server.pid
        finally:
            server.terminate()


def load_with_wrk(port: int, connections: int, seconds: int, script: str) -> float:
    """Requests per second. Raises `RuntimeError` where one was answered with anything but a 2xx."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}/agents/echo"]
    printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
    found = re.search(r"Requests/sec:\s*([\d.]+)", printed)
    if found is None or "Non-2xx" in printed:
        raise RuntimeError(printed)
    return float(found[1])


def load_with_python(port: int, connections: int, seconds: int) -> float:
    """The same with the client of this folder."""
    command = [sys.executable, str(HERE / "load.py"), "127.0.0.1", str(port), str(connections), str(seconds)]
    printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
    return json.loads(printed)["rate"]


def main(rounds: int = 7, seconds: int = 2, connections: int = 32) -> bool:
    """Print the table. Returns whether the target was met."""
    wrk = shutil.which("wrk") is not None
    with contextlib.ExitStack() as stack:
        script = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "post.lua"
        script.write_text(SCRIPT)
        ports = {
            name: stack.enter_context(served(arguments, **(GUARDS if name == GUARDED else {})))
            for name, arguments in SERVERS.items()
        }

        def rate(port: int) -> float:
            return load_with_wrk(port, connections, seconds, str(script)) if wrk else load_with_python(port, connections, seconds)

        figures = compared({name: lambda port=port: rate(port) for name, port in ports.items()}, rounds)
    client = "wrk" if wrk else "load.py, which is the limit itself: install wrk for figures that count"
    title = f"HTTP asks, {connections} connections, client {client}"
    return print_table(title, figures, "bare ASGI", {PLAIN: 0.6, GUARDED: 0.5})


if __name__ == "__main__":
    main()
