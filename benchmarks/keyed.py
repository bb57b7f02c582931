"""Keyed agents: the first ask of a key, which starts a process, and the later ones, against a plain ask in the same runtime."""

from __future__ import annotations

import itertools
import sys
from typing import NamedTuple

import uvloop
from asks import Echo, rate
from machine import pace
from rounds import Bounds, compared, print_table

from portico import Runtime, Supervisor, keyed

PLAIN = "plain ask"
FIRST = "keyed ask, first use of the key"
LATER = "keyed ask, key in use"


class Rates(NamedTuple):
    """Asks per second."""

    plain: float
    first: float
    later: float


async def rates(keys: int, asks: int) -> Rates:
    """One caller. Every payload is the next key's, in the plain asks too, and all processes are there in both."""
    payloads = itertools.cycle([{"session_id": f"k{number}", "text": "hello"} for number in range(keys)])
    chat = keyed(Echo, "chat", per_key="session_id", max_keys=keys, idle_timeout=600.0)
    async with Runtime(Supervisor("root", [Echo("echo"), chat])) as runtime:
        first = await rate(lambda: runtime.ask("chat", next(payloads)), 1, keys)
        later = await rate(lambda: runtime.ask("chat", next(payloads)), 1, asks)
        plain = await rate(lambda: runtime.ask("echo", next(payloads)), 1, asks)
    return Rates(plain, first, later)


def main(rounds: int = 5, keys: int = 10_000, asks: int = 50_000) -> bool:
    """Print the table. Returns whether the targets were met."""
    (runs,) = compared({"one runtime": lambda: uvloop.run(rates(keys, asks))}, rounds).values()
    figures = {PLAIN: [run.plain for run in runs], FIRST: [run.first for run in runs], LATER: [run.later for run in runs]}
    return print_table(f"Keyed agents, {keys:,} keys", figures, PLAIN, {FIRST: Bounds(least=8_000 * pace()), LATER: 0.7})


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
