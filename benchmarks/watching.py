"""Watching: what `GET /events` costs a `portico serve`, and how late it is: `watching.py [PAGES]`, ten unless told otherwise.

A page that watches a quiet gateway is paid for by the processor time of the server: with pages open, less without. An event is late
by the time from when it happened, as its `at` says, until it has come over the wire; the events are runs that are started and end
at once. Beside these, the tree of ten thousand agents: how many bytes, and how long it holds up everybody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from gateway import LONGEST, Gateway, launched
from machine import pace
from rounds import Bounds, print_table

if TYPE_CHECKING:
    from collections.abc import Generator

TOPOLOGY = Path(__file__).parent / "watching.yaml"
CROWD = 10_000
"""Agents of a large gateway."""
QUIET = 10.0
"""Seconds for which a quiet gateway is measured."""
RUNS = 33
"""How many are started with one request; each has three events."""
BATCHES = 60
PAUSE = 0.1
"""Seconds between two requests: so that there are a thousand events a second."""
TICK = os.sysconf("SC_CLK_TCK")


def processor(gateway: Gateway) -> float:
    """Seconds of processor time that the server has had."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextlib.contextmanager
def pages(gateway: Gateway, count: int) -> Generator[list[socket.socket]]:
    """So many clients that watch, each of which has been greeted."""
    request = b"GET /events?topics=process,run,figures HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/jsonl\r\n\r\n"
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port), LONGEST))
            one.sendall(request)
            greeted = b""
            while b'"hello"' not in greeted:
                greeted += one.recv(65536)
            found.append(one)
        yield found


def quiet(gateway: Gateway, count: int) -> float:
    """The share of a core that the server takes with so many pages open."""
    with pages(gateway, count) as open_pages:
        for page in open_pages:
            page.settimeout(0.0)
        before, begun = processor(gateway), time.monotonic()
        while time.monotonic() < begun + QUIET:
            time.sleep(0.25)
            for page in open_pages:
                with contextlib.suppress(BlockingIOError):
                    while page.recv(1 << 20):
                        pass
        return (processor(gateway) - before) / (time.monotonic() - begun)


def lateness(gateway: Gateway) -> tuple[list[float], float]:
    """Seconds by which each event of a run was late, and how many events came each second."""
    body = json.dumps({"runs": [{"agent": "herd", "operation": "nod"}] * RUNS}).encode()
    late: list[float] = []

    def start_runs() -> None:
        begun = time.monotonic()
        for number in range(BATCHES):
            time.sleep(max(0.0, begun + number * PAUSE - time.monotonic()))
            gateway.request("/runs/batch", "POST", body)

    with pages(gateway, 1) as (page,), ThreadPoolExecutor(1) as starter:
        begun = time.monotonic()
        starter.submit(start_runs)
        rest, ended = b"", 0
        while ended < RUNS * BATCHES:
            rest += page.recv(1 << 20)
            came = time.time()
            *lines, rest = rest.split(b"\n")
            for line in lines:
                told: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
                if told.get("type", "").startswith("run."):
                    late.append(came - datetime.fromisoformat(told["data"]["at"]).timestamp())
                    ended += told["type"] == "run.succeeded"
        return late, len(late) / (time.monotonic() - begun)


def main(count: int = 10) -> bool:
    """Print the table. Returns whether the targets were met."""
    with launched(topology=TOPOLOGY) as gateway:
        gateway.wait_until_ready()
        without = quiet(gateway, 0)
        one, many = quiet(gateway, 1), quiet(gateway, count)
        late, rate = lateness(gateway)
        gateway.request("/agents/herd/grow", "POST", json.dumps({"to": CROWD}).encode())
        of_a_crowd = quiet(gateway, 1) - quiet(gateway, 0)
        begun = time.perf_counter()
        status, _ = gateway.request("/agents")
        whole = time.perf_counter() - begun
    figures = {
        "quiet, the first page, % of a core": [100 * (one - without)],
        f"quiet, each of {count} pages, % of a core": [100 * (many - without) / count],
        "quiet, a page of 10,000 agents, % of a core": [100 * of_a_crowd],
        "event on the wire after, median, ms": [1000 * median(late)],
        "event on the wire after, 99 of 100, ms": [1000 * quantiles(late, n=100)[98]],
        "events a second meanwhile": [rate],
        f"GET /agents of 10,000 ({status}), ms": [1000 * whole],
    }
    targets = {name: Bounds(most=2.0) for name in figures if name.startswith("quiet")}
    targets |= {name: Bounds(most=200.0) for name in figures if name.startswith("event on")}
    return print_table("Watching a gateway", figures, None, targets, unit="")


if __name__ == "__main__":
    pace()
    sys.exit(0 if main(*map(int, sys.argv[1:])) else 1)
