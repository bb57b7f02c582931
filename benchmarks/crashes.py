"""Crashes: what one costs with its restart, where nothing is waited for in between.

The supervisor's reports are silenced (`logging.disable`): what a crash costs with a traceback written, the handler decides.
"""

from __future__ import annotations

import logging
import sys
import time

import uvloop
from machine import pace
from rounds import Bounds, compared, print_table

from portico import AgentProcess, Message, Runtime, Supervisor


class Fragile(AgentProcess):
    """Crashes, or tells which incarnation it is."""

    async def handle(self, message: Message) -> str:
        """Crash where it is told so."""
        if message.payload == "crash":
            raise RuntimeError(message.payload)
        return self.id


async def microseconds(crashes: int) -> float:
    """The time for one crash and restart. Every crash is a send; an ask at the end comes to the last incarnation."""
    fragile = Fragile("fragile", mailbox_size=crashes + 1)
    async with Runtime(Supervisor("root", [fragile], max_restarts=2 * crashes, backoff_base=0)) as runtime:
        begun = time.perf_counter()
        for _ in range(crashes):
            await runtime.send("fragile", "crash")
        reply = await runtime.ask("fragile", "who")
        taken = time.perf_counter() - begun
    if reply.payload != f"fragile#{crashes + 1}":
        raise RuntimeError(f"{crashes} crashes and restarts lead to {reply.payload}")
    return taken / crashes * 1e6


def main(rounds: int = 7, crashes: int = 1_000) -> bool:
    """Print the figure. Returns whether the target was met."""
    logging.disable(logging.CRITICAL)
    try:
        figures = compared({"crash and restart": lambda: uvloop.run(microseconds(crashes))}, rounds)
    finally:
        logging.disable(logging.NOTSET)
    title = f"{crashes:,} crashes and restarts without backoff, the supervisor's reports silenced"
    return print_table(title, figures, None, {"crash and restart": Bounds(most=200 / pace())}, " µs")


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
