"""The official conformance suite of MCP against Portico: as a server, and as a client. `scripts/conformance` runs this.

    python -m tests.conformance.suite [server|client] [--era 2026-07-28] [--without-direct] [--scenario NAME]

Every scenario that the suite has for an era is run, also those that it does not score. A warning counts as a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance.node import ROOT, command, run

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

ERAS = ("2025-11-25", "2026-07-28")
SIDES = ("server", "client")
TOPOLOGY = Path(__file__).with_name("topology.yaml")
CLIENT = Path(__file__).with_name("client.py")
GOOD = {"SUCCESS", "INFO", "SKIPPED"}
"""What a check may say. One that is skipped says what Portico does not declare."""
NOT_APPLICABLE = {
    "server-sse-polling": "streams of the old era are not resumed; the call's answer comes on the stream that asked",
    "sep-2640-skills-directory": "the skills extension is not declared",
    "sep-2640-skills-enumeration": "the skills extension is not declared",
    "sep-2640-skills-manifest": "the skills extension is not declared",
    "auth/enterprise-managed-authorization": "no identity provider is asked for a token; that of a platform is (`workload`)",
    "sep-2640-client-no-prefetch": "the skills extension is not used",
    "sep-2640-client-verify-digest": "the skills extension is not used",
    "sep-2640-client-verify-size": "the skills extension is not used",
    "sep-2640-client-verify-frontmatter": "the skills extension is not used",
}
"""Scenarios that say nothing about Portico, and why. docs/mcp_bridge.md has them too."""
PATIENCE = 900.0
"""Seconds that one side may take."""
_FOLDER = re.compile(r"(?:server-|client-)?(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one side did in one era."""

    scenarios: int
    checks: int
    failures: tuple[str, ...]
    output: str
    """What the suite printed."""


@contextmanager
def gateway(*, direct: bool = True, topology: Path = TOPOLOGY) -> Generator[str]:
    """A real gateway, with the agents that the suite wants unless told. Yields the URL of its MCP endpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    line = [sys.executable, "-m", "portico", "serve", str(topology), "--port", str(port), "--log-level", "warning"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PORTICO_MCP_DIRECT": "true" if direct else "false"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(line, env=variables, cwd=ROOT, stdout=log, stderr=log)
        try:
            _await(f"http://127.0.0.1:{port}/readyz", process)
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))


def as_server(era: str, *, direct: bool = True, scenario: str | None = None) -> Outcome:
    """Portico as a server, in one era of the protocol."""
    with gateway(direct=direct) as url:
        return _suite("server", "--url", url, era=era, scenario=scenario)


def as_client(era: str, *, scenario: str | None = None) -> Outcome:
    """Portico as a client, in one era of the protocol."""
    line = shlex.join([sys.executable, str(CLIENT)])
    return _suite("client", "--command", line, "--timeout", "60000", era=era, scenario=scenario)


def _suite(side: str, *arguments: str, era: str, scenario: str | None) -> Outcome:
    which = ["--scenario", scenario, "--spec-version", era, "--force"] if scenario else ["--requirements", era]
    output = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        line = [*command("@modelcontextprotocol/conformance"), side, *arguments, *which, "-o", str(output)]
        done = run(line, timeout=PATIENCE, PYTHONPATH=str(ROOT))
        return _outcome(output, done.stdout + done.stderr)
    finally:
        shutil.rmtree(output)


def _outcome(output: Path, printed: str) -> Outcome:
    scenarios = checks = 0
    failures: list[str] = []
    for file in sorted(output.glob("**/checks.json")):
        found = _FOLDER.fullmatch(str(file.parent.relative_to(output)))
        scenario = found["scenario"] if found else file.parent.name
        if scenario in NOT_APPLICABLE:
            continue
        scenarios += 1
        about: list[dict[str, Any]] = json.loads(file.read_text())
        for check in about:
            checks += 1
            if check["status"] not in GOOD:
                failures.append(f"{scenario}: {check['id']}: {check['status']}: {check.get('errorMessage', check['description'])}")
    return Outcome(scenarios, checks, tuple(failures), printed)


def _await(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # our own gateway
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise RuntimeError("the gateway is not ready")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. Returns the exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="scripts/conformance", description=__doc__)
    parser.add_argument("side", nargs="?", choices=SIDES)
    parser.add_argument("--era", choices=ERAS)
    parser.add_argument("--scenario")
    parser.add_argument("--without-direct", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show what the suite prints")
    asked = parser.parse_args(arguments)
    failed = False
    for side in [asked.side] if asked.side else SIDES:
        for era in [asked.era] if asked.era else ERAS:
            outcome = (
                as_server(era, direct=not asked.without_direct, scenario=asked.scenario)
                if side == "server"
                else as_client(era, scenario=asked.scenario)
            )
            if asked.verbose:
                _say(outcome.output)
            _say(f"{side} {era}: {outcome.scenarios} scenarios, {outcome.checks} checks, {len(outcome.failures)} failed")
            for failure in outcome.failures:
                _say(f"  {failure}")
            failed = failed or bool(outcome.failures) or not outcome.scenarios
    return int(failed)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
