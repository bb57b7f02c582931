"""Fuzzing: gateways in a thread, and schemathesis, which drives them from their own OpenAPI document, in a process.

The test beside it does so briefly; `scripts/fuzz` runs this file for as long as one likes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx

from portico.app.factory import create_app
from tests.app.serving import ANY_PORT, listening
from tests.openapi.hostile import runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "examples" / "demo" / "topology.yaml"
CONFIG = Path(__file__).with_name("schemathesis.toml")
KEY = "open sesame"
LEFT_OUT = "^/agents/(worker|flaky|counter|librarian)"
"""What takes its time, crashes on purpose, or has no contract: other tests have it."""
PHASES = "examples,coverage,fuzzing,stateful"


@dataclass(frozen=True)
class Target:
    """One gateway to drive."""

    name: str
    source: Callable[[], Any]
    key: str | None = None


TARGETS = (
    Target("the demo", lambda: DEMO),
    Target("the demo, with a key", lambda: DEMO, KEY),
    Target("hostile contracts", runtime),
    Target("hostile contracts, with a key", runtime, KEY),
)


@contextmanager
def served(target: Target) -> Generator[str]:
    """The address of a gateway, for as long as it is needed; it never says 429 or 503 by itself."""
    started: list[str] = []
    ready, stop = threading.Event(), threading.Event()
    settings = replace(ANY_PORT, api_key=target.key, request_timeout=20)

    async def serve() -> None:
        async with listening(create_app(target.source(), settings), settings) as gateway:
            started.append(f"http://127.0.0.1:{gateway.port}")
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        yield started[0]
    finally:
        stop.set()
        thread.join(60)


def drive(
    address: str, target: Target, *, examples: int, left_out: str = LEFT_OUT, seconds: int | None = None, seed: int | None = None
) -> tuple[int, str]:
    """Run schemathesis with every check in every phase. Returns its exit code (0: it found nothing) and its report."""
    options = ["--phases", PHASES, "--max-examples", str(examples), "--exclude-path-regex", left_out]
    options += ["--suppress-health-check", "all", "--request-timeout", "30", "--no-color", "--continue-on-failure"]
    options += ["--max-time", str(seconds)] if seconds is not None else []
    options += ["--seed", str(seed)] if seed is not None else []
    headers = {"authorization": f"Bearer {target.key}"}
    document = httpx.get(f"{address}/openapi.json", headers=headers, timeout=30, trust_env=False).text
    with TemporaryDirectory() as folder:
        path = Path(folder) / "openapi.json"
        path.write_text(document)
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", str(path), "--url", address]
        done = subprocess.run(
            [*command, *options],
            cwd=REPOSITORY,
            env={**os.environ, "FUZZ_KEY": target.key or "none"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout


def main() -> int:
    """Drive every target for its part of the time; print what was found. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Drive gateways from their own OpenAPI documents.")
    parser.add_argument("seconds", nargs="?", type=int, default=300, help="for all of them together")
    parser.add_argument("--examples", type=int, default=100, help="per operation and round")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    found = 0
    for target in TARGETS:
        begun = time.monotonic()
        with served(target) as address:
            code, report = drive(
                address, target, examples=given.examples, seconds=max(1, given.seconds // len(TARGETS)), seed=given.seed
            )
        sys.stdout.write(f"== {target.name}: {'nothing found' if code == 0 else 'failed'} in {time.monotonic() - begun:.0f} s\n")
        if code != 0:
            found += 1
            sys.stdout.write(report)
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
