"""Wire: standard input and output, kept for the protocol alone, and the signals that end it.

Above: whoever speaks MCP over them: `serving/stdio.py`, `relaying/relay.py`. The command line enters `claimed_wire()` before it
loads any of a user's code.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Wire:
    """The two descriptors that carry the protocol."""

    reads: int
    """Where the client's messages come from."""
    writes: int
    """Where ours go to."""


@contextmanager
def claimed_wire(*, for_good: bool = False) -> Generator[Wire]:
    """Keep stdin and stdout for the protocol alone; `for_good`: also afterwards, for what a program prints at its exit.

    Meanwhile `print`, and whatever else writes to descriptor 1, goes to stderr, also from child processes; descriptor 0 is empty.
    What was printed before and not yet written goes to stderr too.
    """
    wire = Wire(os.dup(STDIN), os.dup(STDOUT))
    stdout = sys.stdout
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, STDIN)
    os.close(empty)
    os.dup2(STDERR, STDOUT)
    stdout.flush()
    sys.stdout = sys.stderr
    try:
        yield wire
    finally:
        stdout.flush()
        if not for_good:
            sys.stdout = stdout
            os.dup2(wire.reads, STDIN)
            os.dup2(wire.writes, STDOUT)
        os.close(wire.reads)
        os.close(wire.writes)


async def stop_on_signal(scope: anyio.CancelScope) -> None:
    """Cancel a scope on SIGTERM or SIGINT. Only in the main thread."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return
