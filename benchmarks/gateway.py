"""Gateway: a `portico serve` of the durable benchmarks, on a free port, with or without a data directory.

Above: every benchmark that stores over HTTP. It has the first core, its clients the second one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from http_asks import pinned

if TYPE_CHECKING:
    from collections.abc import Generator

TOPOLOGY = Path(__file__).parent / "durable.yaml"
NORMAL = Path(__file__).parent / "durable_normal.yaml"
"""The same agents, with `synchronous: normal`."""
LONGEST = 60.0
"""Seconds after which waiting for it makes no sense any more."""
PAUSE = 0.005
"""Seconds between two looks whether it is ready."""
LONGER_PAUSE = 0.02
"""Seconds between two looks at its runs, which cost it some time."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that was started; it need not be ready yet."""

    port: int
    process: subprocess.Popen[bytes]

    def request(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any]:
        """The status, and what the JSON says. Raises `OSError` where it does not listen yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        """Until `/readyz` is 200."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.request("/readyz")[0] == 200:
                    return
            time.sleep(PAUSE)
        code = self.process.poll()
        raise RuntimeError(f"the gateway ended with {code}" if code is not None else f"the gateway was not ready in {LONGEST:g} s")

    def wait_until_none_is(self, *statuses: str) -> None:
        """Until no run is in any of these statuses."""
        until = time.monotonic() + LONGEST
        for status in statuses:
            while self.request(f"/runs?status={status}&limit=1")[1]["runs"]:
                if time.monotonic() > until:
                    raise RuntimeError(f"after {LONGEST:g} s there are still runs that are {status}")
                time.sleep(LONGER_PAUSE)

    def wait_until_settled(self) -> None:
        """Until every run has ended."""
        self.wait_until_none_is("queued", "running")


@contextlib.contextmanager
def launched(data: Path | None = None, topology: Path = TOPOLOGY) -> Generator[Gateway]:
    """Start one, and go on at once. At the end it is stopped as by an operator, so that everything is in the main file."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    arguments = ["-m", "portico", "serve", str(topology), "--port", str(port), "--log-level", "warning"]
    stored = ["--data", str(data)] if data is not None else []
    with subprocess.Popen(pinned(0, [sys.executable, *arguments, *stored]), stdout=subprocess.DEVNULL) as process:
        try:
            yield Gateway(port, process)
        finally:
            process.terminate()
            try:
                process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextlib.contextmanager
def served(data: Path | None = None, topology: Path = TOPOLOGY) -> Generator[Gateway]:
    """The same, ready."""
    with launched(data, topology) as gateway:
        gateway.wait_until_ready()
        yield gateway
