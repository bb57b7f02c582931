"""Resumption: the event stream of a finished run, read from a gateway that was started after it had ended.

The time counts from connecting to the first event. Each stream is read to its end and counted, so that the next one begins alone.
"""

from __future__ import annotations

import re
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import disk
from gateway import LONGEST, Gateway, served
from machine import pace
from rounds import Bounds, compared, print_table
from stored_runs import filled

if TYPE_CHECKING:
    from pathlib import Path

_ID = re.compile(rb"^id: (\d+)\n", flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream."""

    first: float
    """Milliseconds to its first event."""
    rate: float
    """Events per second, from the connection to the last."""


def narrated(directory: Path, events: int) -> str:
    """Let the narrator tell so much, and stop the gateway. Returns the id of the run."""
    with served(directory) as gateway:
        status, reference = gateway.request("/agents/narrator/cast", "POST", b'{"events": %d}' % events)
        if status != 202:
            raise RuntimeError(f"the narrator was not asked: {reference}")
        gateway.wait_until_settled()
        _, run = gateway.request(f"/runs/{reference['run_id']}")
    if run["status"] != "succeeded":
        raise RuntimeError(f"the narrator did not tell: {run}")
    return run["run_id"]


def streamed(gateway: Gateway, run_id: str, after: int, last: int) -> Streamed:
    """Read the events after a number. Raises `RuntimeError` where one is missing."""
    request = f"GET /runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\nLast-Event-ID: {after}\r\nConnection: close\r\n\r\n"
    chunks: list[bytes] = []
    first = None
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", gateway.port), LONGEST) as connection:
        connection.sendall(request.encode())
        while chunk := connection.recv(65536):
            chunks.append(chunk)
            if first is None and _ID.search(b"".join(chunks)):
                first = time.perf_counter() - begun
    taken = time.perf_counter() - begun
    numbers = [int(number) for number in _ID.findall(b"".join(chunks))]
    if first is None or numbers != list(range(after + 1, last + 1)):
        raise RuntimeError(f"of the events from {after + 1} to {last} came {len(numbers)}: {b''.join(chunks[:1])!r}")
    return Streamed(first * 1000, len(numbers) / taken)


def main(rounds: int = 9, events: int = 10_000, runs: int = 100_000) -> bool:
    """Print the tables. Returns whether the targets were met."""
    disk.tell()
    last = events + 2  # with the first and the last one, which are Portico's own
    directory = filled(runs)
    run_id = narrated(directory, events)
    names = {"Last-Event-ID: 0": 0, f"Last-Event-ID: {events // 2}": events // 2}
    with served(directory) as gateway:
        measures = {name: lambda after=after: streamed(gateway, run_id, after, last) for name, after in names.items()}
        streams = compared(measures, rounds)
    title = f"The first event of a finished run with {events:,}, after a restart, {runs:,} other runs in the store"
    firsts = {name: [stream.first for stream in values] for name, values in streams.items()}
    met = print_table(title, firsts, None, dict.fromkeys(names, Bounds(most=50 / pace())), " ms")
    print_table(
        "The same streams to their end, for the record: events", {n: [s.rate for s in v] for n, v in streams.items()}, None, {}
    )
    return met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
