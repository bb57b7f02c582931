"""Asks in one process, beside the far limit: a round trip of Erlang's own `gen_server:call` on this machine. No target.

The Erlang side is `round_trip.erl`. It runs as Erlang comes, with a scheduler for each core.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import uvloop
from asks import PORTICO, portico
from rounds import compared, print_table

PROGRAM = Path(__file__).parent / "round_trip.erl"
ERLANG = "gen_server:call, timeout 30 s"


def calls(callers: int, number: int) -> float:
    """Round trips per second with so many callers at once. Starting the emulator and compiling do not count."""
    command = ["escript", str(PROGRAM), str(callers), str(number)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(rounds: int = 5, asks: int = 64_000) -> bool:
    """Print the tables, or that there is no Erlang. There is nothing to miss."""
    if shutil.which("escript") is None:
        print("\nIn-process asks against Erlang: NOT MEASURED, there is no `escript` (Debian: apt-get install erlang-base)")
        return True
    for callers in (1, 32):
        figures = compared(
            {
                ERLANG: lambda callers=callers: calls(callers, asks * 4),
                PORTICO: lambda callers=callers: uvloop.run(portico(callers, asks)),
            },
            rounds,
        )
        print_table(f"In-process asks, callers: {callers}, against Erlang", figures, ERLANG, {})
    return True


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
