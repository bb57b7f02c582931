"""Stored asks: asks with an idempotency key, and sends, over HTTP against plain asks of the same gateway.

Each is stored before it is handled, and its end before it is answered (a send: not even awaited). Every request has a new key.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import disk
from gateway import NORMAL, Gateway, served
from rounds import compared, print_table
from wrk import load, rate, there_is_wrk

ASK = "/agents/echo"
PLAIN = "plain ask"
KEYED = "ask with a new Idempotency-Key"
KEYED_NORMAL = "ask with a new key, synchronous: normal"
SEND = "send (POST …/cast, 202)"
SEND_NORMAL = "send, synchronous: normal"


class Sends:
    """Measures sends, and remembers how many were refused because the agent's mailbox was full."""

    def __init__(self) -> None:
        self.refused = 0

    def rate(self, gateway: Gateway, seconds: float, connections: int) -> float:
        """Accepted sends per second. What they leave behind is over when this returns."""
        answers = load(gateway.port, f"{ASK}/cast", seconds, connections=connections)
        gateway.wait_until_settled()
        self.refused += answers.refused
        return answers.rate


def main(rounds: int = 7, seconds: float = 2, connections: int = 32) -> bool:
    """Print the table. Returns whether the target was met."""
    title = f"Stored asks over HTTP, {connections} connections, a gateway with --data"
    if not there_is_wrk(title):
        return True
    disk.tell()
    sends = Sends()
    with ExitStack() as stack:
        full = stack.enter_context(served(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        normal = stack.enter_context(served(Path(stack.enter_context(tempfile.TemporaryDirectory())), NORMAL))

        def asks(gateway: Gateway, *, keyed: bool) -> float:
            return rate(gateway.port, ASK, seconds, keyed=keyed, connections=connections)

        figures = compared(
            {
                PLAIN: lambda: asks(full, keyed=False),
                KEYED: lambda: asks(full, keyed=True),
                KEYED_NORMAL: lambda: asks(normal, keyed=True),
                SEND: lambda: sends.rate(full, seconds, connections),
                SEND_NORMAL: lambda: sends.rate(normal, seconds, connections),
            },
            rounds,
        )
    met = print_table(title, figures, PLAIN, {KEYED: 0.5})
    if sends.refused:
        print(f"  {sends.refused:,} sends were refused, because the agent's mailbox was full; they do not count")
    return met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
