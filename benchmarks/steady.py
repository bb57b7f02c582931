"""Steady load: whether the server's memory stays what it is, under asks at 70 % of what it can do.

`steady.py MINUTES` (10 unless given). The resident memory is read every second, after a first tenth that does not count.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from half_load import CONNECTIONS, measured
from http_asks import PLAIN, SCRIPT, SERVERS, pinned, serving
from memory import resident
from wrk import there_is_wrk

ALLOWED = 0.05
"""How far apart the first and the last quarter of the readings may be."""


def main(minutes: float = 10.0) -> bool:
    """Print the figures. Returns whether memory was flat within 5 %."""
    title = f"Asks at 70 % load for {minutes:g} minutes"
    if not there_is_wrk(title):
        return True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        port, pid = stack.enter_context(serving(SERVERS[PLAIN]))
        full = measured(port, 5, 0.0, folder)[0]
        readings: list[float] = []
        over = threading.Event()
        reader = threading.Thread(target=_read, args=(pid, readings, over))
        script = Path(folder) / "steady.lua"
        script.write_text(SCRIPT + f"function delay() return math.random() * {CONNECTIONS / full * 0.8 * 2000:.3f} end")
        command = [
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{round(minutes * 60)}s",
            "-s",
            str(script),
            f"http://127.0.0.1:{port}/agents/echo",
        ]
        reader.start()
        try:
            printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
        finally:
            over.set()
            reader.join()
    counted = readings[len(readings) // 10 :]
    quarter = max(1, len(counted) // 4)
    first, last = median(counted[:quarter]), median(counted[-quarter:])
    met = abs(last / first - 1) <= ALLOWED and "Non-2xx" not in printed
    rate = next(line.split()[1] for line in printed.splitlines() if line.startswith("Requests/sec"))
    print(f"\n{title}: {rate}/s of {full:,.0f}/s")
    print(
        f"  resident memory {first:.1f} MiB in the first quarter, {last:.1f} MiB in the last: {last / first - 1:+.1%}"
        f"  target within 5 %: {'met' if met else 'MISSED'}"
    )
    return met


def _read(pid: int, readings: list[float], over: threading.Event) -> None:
    while not over.wait(1.0):
        readings.append(resident(pid) / 1024)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
