"""Streams: many idle event streams of one `portico serve`: `streams.py [STREAMS]`, 5,000 unless told otherwise.

What one holds in the server, how long one event takes to all of them, and how long a stop takes with streams open and asks in
flight. The clients are plain sockets in this process, on the other core.
"""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import LONGEST, Gateway, served
from machine import pace
from memory import resident
from rounds import Bounds, print_table

if TYPE_CHECKING:
    from collections.abc import Generator

TOPOLOGY = Path(__file__).parent / "streams.yaml"
WARMING = 100
"""Streams before those that count: what only the first ones cost is none of theirs."""
OPEN, ASKS = 500, 50
"""Of the stop."""
AT_A_TIME = 100
"""How many are being opened: a listener that many knock at drops some."""
FORMS = {"Server-Sent Events": "text/event-stream", "JSON lines": "application/jsonl"}


def opened(gateway: Gateway, run_id: str, streams: int, accept: str) -> list[socket.socket]:
    """So many streams of one run, each of which has told the first event."""
    request = f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n".encode()
    found: list[socket.socket] = []
    while len(found) < streams:
        few = [socket.create_connection(("127.0.0.1", gateway.port), LONGEST) for _ in range(min(AT_A_TIME, streams - len(found)))]
        for one in few:
            one.sendall(request)
        wait_for(few, b"run.started")
        found += few
    return found


def wait_for(streams: list[socket.socket], text: bytes) -> float:
    """Until each stream has said that. Returns when the last did."""
    poll, waiting = select.epoll(), {stream.fileno(): (stream, b"") for stream in streams}
    for number in waiting:
        poll.register(number, select.EPOLLIN)
    while waiting:
        ready = poll.poll(LONGEST)
        if not ready:
            raise RuntimeError(f"{len(waiting)} of {len(streams)} streams did not say {text!r}")
        for number, _ in ready:
            stream, before = waiting[number]
            chunk = stream.recv(65536)
            if not chunk:
                raise RuntimeError(f"a stream ended before it said {text!r}")
            if text in before + chunk:
                poll.unregister(number)
                del waiting[number]
            else:
                waiting[number] = (stream, before + chunk)
    ended = time.perf_counter()
    poll.close()
    return ended


@contextlib.contextmanager
def followed(streams: int, accept: str, operation: str = "hold") -> Generator[tuple[Gateway, list[socket.socket], float]]:
    """A gateway with so many streams of one run, and what each of them holds in it, in KiB."""
    with served(topology=TOPOLOGY) as gateway:
        run_id: str = gateway.request(f"/agents/herald/{operation}/cast", "POST", b"{}")[1]["run_id"]
        warm = opened(gateway, run_id, WARMING, accept)
        before = resident(gateway.process.pid)
        counted = opened(gateway, run_id, streams, accept)
        time.sleep(1)  # until what opening them left behind is collected
        held = (resident(gateway.process.pid) - before) / streams
        try:
            yield gateway, warm + counted, held
        finally:
            for stream in warm + counted:
                stream.close()


def told(gateway: Gateway, streams: list[socket.socket]) -> float:
    """Milliseconds from asking for an event until the last stream has it."""
    with ThreadPoolExecutor(1) as thread:
        begun = time.perf_counter()
        asked = thread.submit(gateway.request, "/agents/herald/tell", "POST", b"{}")
        taken = wait_for(streams, b"once upon a time") - begun
        if asked.result() != (200, True):
            raise RuntimeError(f"the herald did not tell: {asked.result()}")
    return taken * 1000


def stopped() -> tuple[float, int]:
    """Stop a gateway with streams and asks. Returns the seconds from the last reply to its exit, and how many were not answered."""
    with followed(OPEN - WARMING, FORMS["Server-Sent Events"], "doze") as (gateway, _, _), ThreadPoolExecutor(ASKS) as threads:

        def ask(_: int) -> tuple[bool, float]:
            try:
                answer = gateway.request("/agents/herald/rest", "POST", json.dumps({"seconds": 2}).encode())
            except OSError:
                answer = None
            return answer == (200, "rested"), time.perf_counter()

        asks = [threads.submit(ask, number) for number in range(ASKS)]
        time.sleep(1)  # until all of them are in hand
        gateway.process.terminate()
        gateway.process.wait(LONGEST)
        ended = time.perf_counter()
        answers = [one.result() for one in asks]
    return ended - max(at for _, at in answers), sum(not answered for answered, _ in answers)


def main(streams: int = 5000, rounds: int = 5) -> bool:
    """Print the tables. Returns whether the targets were met."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server inherits it
    memory: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for name, accept in FORMS.items():
        with followed(streams, accept) as (gateway, all_of_them, held):
            memory[name] = [held]
            told(gateway, all_of_them)
            times[name] = [told(gateway, all_of_them) for _ in range(rounds)]
    met = print_table(f"{streams:,} idle streams: memory of each", memory, None, dict.fromkeys(FORMS, Bounds(most=25)), " KiB")
    title = f"One event to {streams + WARMING:,} streams"
    met = print_table(title, times, None, dict.fromkeys(FORMS, Bounds(most=500 / pace())), " ms") and met
    stops = [stopped() for _ in range(3)]
    dropped = sum(lost for _, lost in stops)
    title = f"A stop with {OPEN} streams and {ASKS} asks: after the last reply ({dropped} of {3 * ASKS} asks dropped)"
    return print_table(title, {"exit": [late for late, _ in stops]}, None, {"exit": Bounds(most=2)}, " s") and met and not dropped


if __name__ == "__main__":
    sys.exit(0 if main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000) else 1)
