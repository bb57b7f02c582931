"""Latency at half load: the 99th percentile of Portico's asks beside that of bare ASGI, each at half of what it can do itself.

The client is wrk, whose connections wait between two requests; there is no stand-in for it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from http_asks import PLAIN, SCRIPT, SERVERS, pinned, served
from rounds import compared
from wrk import there_is_wrk

CONNECTIONS = 32
BARE = "bare ASGI"
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def measured(port: int, seconds: int, pause: float, folder: str) -> tuple[float, float]:
    """Requests per second, and the 99th percentile in seconds, where each connection rests `pause` seconds between two."""
    script = Path(folder) / f"pause{pause:.6f}.lua"
    wait = f"function delay() return math.random() * {pause * 2000:.3f} end" if pause else ""
    script.write_text(SCRIPT + wait)
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/agents/echo",
    ]
    printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
    rate, tail = re.search(r"Requests/sec:\s*([\d.]+)", printed), re.search(r"99%\s+([\d.]+)(us|ms|s)", printed)
    if rate is None or tail is None or "Non-2xx" in printed:
        raise RuntimeError(printed)
    return float(rate[1]), float(tail[1]) * _UNITS[tail[2]]


def main(rounds: int = 5, seconds: int = 3) -> bool:
    """Print both tails and their ratio. Returns whether the target was met."""
    title = "HTTP asks at half load"
    if not there_is_wrk(title):
        return True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        ports = {name: stack.enter_context(served(SERVERS[name])) for name in (BARE, PLAIN)}
        full = {name: measured(port, seconds, 0.0, folder)[0] for name, port in ports.items()}
        # A connection that rests as long as it would take all of them to be served twice makes half of the rate.
        pauses = {name: CONNECTIONS / rate * 1.7 for name, rate in full.items()}
        figures = compared(
            {name: lambda name=name, port=port: measured(port, seconds, pauses[name], folder) for name, port in ports.items()},
            rounds,
        )
    print(f"\n{title}, {CONNECTIONS} connections")
    tails = {name: median(tail for _, tail in measures) for name, measures in figures.items()}
    for name, measures in figures.items():
        rate = median(rate for rate, _ in measures)
        print(f"  {name:<44} {rate:>10,.0f}/s of {full[name]:,.0f}/s  p99 {tails[name] * 1000:.2f} ms")
    ratio = median(portico / bare for (_, portico), (_, bare) in zip(figures[PLAIN], figures[BARE], strict=True))
    met = ratio <= 2.0
    print(f"  p99 of Portico to bare ASGI {ratio:.2f}  target at most 2: {'met' if met else 'MISSED'}")
    return met


if __name__ == "__main__":
    main()
