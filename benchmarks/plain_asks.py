"""Plain asks, which are never stored: what a data directory costs those that do not use it.

Two programs that should be equally fast differ by some percent from start to start, so several pairs of them are started, and which
of a pair is asked first changes from pair to pair.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import disk
from gateway import served
from rounds import compared, print_table
from wrk import rate, there_is_wrk

WITHOUT = "gateway without a data directory"
WITH = "gateway with --data"


def one_pair(rounds: int, seconds: float, connections: int, *, turned: bool) -> dict[str, list[float]]:
    """Start both, and measure them in turn."""
    with tempfile.TemporaryDirectory() as data, served() as without, served(Path(data)) as stores:
        measures = [
            (WITHOUT, lambda: rate(without.port, "/agents/echo", seconds, connections=connections)),
            (WITH, lambda: rate(stores.port, "/agents/echo", seconds, connections=connections)),
        ]
        return compared(dict(reversed(measures) if turned else measures), rounds)


def main(pairs: int = 4, rounds: int = 5, seconds: float = 1, connections: int = 32) -> bool:
    """Print the table. Returns whether the target was met."""
    title = f"Plain asks over HTTP, {connections} connections, {pairs} pairs of gateways"
    if not there_is_wrk(title):
        return True
    disk.tell()
    figures: dict[str, list[float]] = {WITHOUT: [], WITH: []}
    for number in range(pairs):
        for name, values in one_pair(rounds, seconds, connections, turned=number % 2 == 1).items():
            figures[name] += values
    return print_table(title, figures, WITHOUT, {WITH: 0.97})


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
