"""Start-up: from the start of `portico serve` until `/readyz` is 200 and what an earlier life has left queued is delivered."""

from __future__ import annotations

import sys
import time
import uuid
from typing import NamedTuple

import disk
from gateway import launched
from machine import pace
from rounds import Bounds, compared, print_table
from stored_runs import add_queued, filled

WITHOUT = "without data, until ready"


class Started(NamedTuple):
    """One start, in seconds from the beginning of the program."""

    ready: float
    """Until `/readyz` was 200."""
    delivered: float
    """Until nothing was queued any more, too."""


def empty_start() -> Started:
    """A gateway without data: nothing is queued."""
    begun = time.perf_counter()
    with launched() as gateway:
        gateway.wait_until_ready()
        taken = time.perf_counter() - begun
        return Started(taken, taken)


def full_start(runs: int, queued: int) -> Started:
    """A gateway with so many finished and queued runs. The queued ones stay, finished."""
    directory = filled(runs)
    names = [f"queued-{uuid.uuid4().hex}" for _ in range(queued)]
    add_queued(directory, names)
    begun = time.perf_counter()
    with launched(directory) as gateway:
        gateway.wait_until_ready()
        ready = time.perf_counter() - begun
        gateway.wait_until_none_is("queued")
        delivered = time.perf_counter() - begun
        gateway.wait_until_settled()
        for name in (names[0], names[-1]):
            _, run = gateway.request(f"/runs/{name}")
            if run["status"] != "succeeded":
                raise RuntimeError(f"a queued run was not handled: {run}")
    return Started(ready, delivered)


def main(rounds: int = 5, runs: int = 100_000, queued: int = 1_000) -> bool:
    """Print the table. Returns whether the target was met."""
    disk.tell()
    ready, delivered = "with data, until ready", "with data, until ready and all delivered"
    starts = compared({WITHOUT: empty_start, ready: lambda: full_start(runs, queued)}, rounds)
    figures = {
        WITHOUT: [start.ready for start in starts[WITHOUT]],
        ready: [start.ready for start in starts[ready]],
        delivered: [start.delivered for start in starts[ready]],
    }
    title = f"Start-up of a gateway; the data: {runs:,} finished and {queued:,} queued runs"
    return print_table(title, figures, None, {delivered: Bounds(most=2 / pace())}, " s")


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
