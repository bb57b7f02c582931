"""Telemetry: asks over HTTP without traces, with every one sampled, and with one in a hundred; all exported over OTLP.

Beside them: without metrics; and what it costs that the SDK is merely installed, against a program that does not find it.
The spans go to `otlp_sink.py`, which throws them away, on the client's core: what is measured is what they cost the gateway.
Each ask has a server span, a dispatch span and a handle span.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
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


HIDDEN = """import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.instrumentation", "opentelemetry.proto")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""
"""A `sitecustomize` under which nothing finds the SDK, its exporters and its instrumentations. OpenTelemetry's API stays: the MCP
SDK requires it."""


@contextlib.contextmanager
def without_sdk() -> Generator[dict[str, str]]:
    """Variables of a program that does not find the SDK. Raises `RuntimeError` where it does, or where nobody else would."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(HIDDEN)
        path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
        for hidden, environment in ((False, {}), (True, {"PYTHONPATH": path})):
            asked = [sys.executable, "-c", "import opentelemetry.sdk.trace"]
            done = subprocess.run(asked, env={**os.environ, **environment}, stderr=subprocess.DEVNULL, check=False)
            if (done.returncode != 0) != hidden:
                raise RuntimeError("The SDK is not installed, or could not be hidden: there is nothing to compare.")
        yield {"PYTHONPATH": path}


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
            "off, without the SDK": stack.enter_context(without_sdk()),
        }
        ports = {name: stack.enter_context(served(PORTICO, **more)) for name, more in environments.items()}
        rates = {name: lambda port=port: wrk.rate(port, "/agents/echo", seconds) for name, port in ports.items()}
        metered = {"with metrics": rates["telemetry off"], "without": rates.pop("off, without metrics")}
        figures = compared(rates, rounds)
        pairs = compared(metered, 3 * rounds)  # what is to be seen is smaller than what single rounds differ by
    targets = {"100 % sampled": 0.25, "1 % sampled": 0.6}
    print(f"Spans per second, 100 % sampled: {SPANS * median(figures['100 % sampled']):,.0f}")
    met = print_table("Telemetry, 32 connections", figures, "telemetry off", targets)
    met = print_table("Metrics, 32 connections", pairs, "without", {"with metrics": 0.93}) and met
    pair = {"SDK installed": figures["telemetry off"], "not installed": figures["off, without the SDK"]}
    return print_table("OpenTelemetry's SDK, 32 connections", pair, "not installed", {"SDK installed": 0.98}) and met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
