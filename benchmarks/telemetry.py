"""Telemetry: asks over HTTP without traces, with every one sampled, and with one in a hundred; all exported over OTLP.

The spans go to `otlp_sink.py`, which throws them away, on the client's core: what is measured is what they cost the gateway.
Each ask has a server span, a dispatch span and a handle span.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import wrk
from http_asks import PORTICO, pinned, served
from rounds import compared, print_table

if TYPE_CHECKING:
    from collections.abc import Generator

SPANS = 3
"""Of one ask."""
SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}


@contextlib.contextmanager
def sink() -> Generator[str]:
    """The address of an endpoint."""
    command = pinned(1, [sys.executable, str(Path(__file__).parent / "otlp_sink.py")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # our own command
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def main(rounds: int = 7, seconds: int = 2) -> bool:
    """Print the table. Returns whether the targets were met."""
    if not wrk.there_is_wrk("Telemetry"):
        return True
    with contextlib.ExitStack() as stack:
        traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": stack.enter_context(sink())}
        environments = {
            "telemetry off": {},
            "100 % sampled": traced,
            "1 % sampled": {**traced, **SAMPLED, "OTEL_TRACES_SAMPLER_ARG": "0.01"},
            "off, without metrics": {"PORTICO_METRICS_ENABLED": "false"},
        }
        ports = {name: stack.enter_context(served(PORTICO, **more)) for name, more in environments.items()}
        figures = compared(
            {name: lambda port=port: wrk.rate(port, "/agents/echo", seconds) for name, port in ports.items()}, rounds
        )
    targets = {"100 % sampled": 0.25, "1 % sampled": 0.6}
    print(f"Spans per second, 100 % sampled: {SPANS * median(figures['100 % sampled']):,.0f}")
    met = print_table("Telemetry, 32 connections", figures, "telemetry off", targets)
    pair = {"with metrics": figures["telemetry off"], "without": figures["off, without metrics"]}
    return print_table("Metrics, 32 connections", pair, "without", {"with metrics": 0.93}) and met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
