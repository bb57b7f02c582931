"""Pages: `GET /runs` where there are many, beside the plain asks that a gateway in use remembers."""

from __future__ import annotations

import http.client
import json
import sys
import time

import disk
from gateway import LONGEST, served
from http_asks import load_with_python
from machine import pace
from rounds import Bounds, compared, print_table
from stored_runs import filled

PAGE = 50


def milliseconds(connection: http.client.HTTPConnection, path: str) -> float:
    """The time for one page, on a connection that is there. Raises `RuntimeError` where it is not whole."""
    begun = time.perf_counter()
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read()
    taken = time.perf_counter() - begun
    if response.status != 200 or len(json.loads(text)["runs"]) != PAGE:
        raise RuntimeError(f"{path} was answered with {response.status}: {text[:500]!r}")
    return taken * 1000


def main(rounds: int = 51, runs: int = 100_000, seconds: int = 4) -> bool:
    """Print the table. Returns whether the targets were met."""
    disk.tell()
    middle = f"/runs?before=finished-{runs // 2:07d}"
    with served(filled(runs)) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=LONGEST)
        figures = compared(
            {
                "the first page": lambda: milliseconds(connection, "/runs"),
                "a page in the middle": lambda: milliseconds(connection, middle),
            },
            rounds,
        )
        load_with_python(gateway.port, 32, seconds)
        figures |= compared(
            {
                "the first page, after many plain asks": lambda: milliseconds(connection, "/runs"),
                "a page in the middle, after many plain asks": lambda: milliseconds(connection, middle),
            },
            rounds,
        )
        connection.close()
    title = f"GET /runs, {PAGE} of {runs:,} stored runs"
    return print_table(title, figures, None, dict.fromkeys(figures, Bounds(most=20 / pace())), " ms")


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
