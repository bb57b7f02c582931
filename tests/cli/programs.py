"""Runs the command line as its users do: as a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "examples" / "demo" / "topology.yaml"

AGENTS = """
import asyncio
from portico import AgentProcess, operation


class Echo(AgentProcess):
    async def handle(self, message):
        return message.payload


class Kinds(AgentProcess):
    @operation
    async def raw(self):
        return b"\\xff\\xfe"

    @operation
    async def odd(self):
        return object()

    @operation
    async def crash(self):
        raise RuntimeError("on purpose")


class Slow(AgentProcess):
    @operation
    async def nap(self, seconds: float = 1.0) -> str:
        await asyncio.sleep(seconds)
        return "rested"


class Stubborn(AgentProcess):
    @operation
    async def stay(self) -> str:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass


class Doomed(AgentProcess):
    async def on_start(self):
        self.start_task(self.fall(), "fall")

    async def fall(self):
        await asyncio.sleep(0.5)
        raise RuntimeError("no ground")


class Stillborn(AgentProcess):
    async def on_start(self):
        raise RuntimeError("not today")
"""


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This program's environment, with the checkout on the path and nobody's settings."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "120", "NO_COLOR": "1", **(more or {})}


def topology(folder: Path, *agents: str, more: str = "", name: str = "topology.yaml") -> Path:
    """A topology of these agent types in a folder, with the agents beside it."""
    (folder / "agents.py").write_text(AGENTS)
    children = "".join(f"    - {{type: agents.{agent}, name: {agent.lower()}}}\n" for agent in agents)
    path = folder / name
    path.write_text(f"supervision:\n  name: root\n  children:\n{children}{more}" if agents else more)
    return path


def portico(
    *arguments: str | Path, folder: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. No command may ever show a traceback."""
    command = [sys.executable, "-m", "portico", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=environment(env), input=stdin, capture_output=True, timeout=40, check=False)
    result = subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback (most" not in result.stdout + result.stderr, result.stderr
    return result


def refused(*arguments: str | Path, folder: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    """Run a command that cannot work: the sentence on standard error. Nothing is on standard output, the code is not 0."""
    result = portico(*arguments, folder=folder, stdin=stdin, env=env)
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.strip()
    return result.stderr


@contextmanager
def serving(
    *arguments: str | Path, folder: Path, env: Mapping[str, str] | None = None
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """`portico serve` on any port: the process and its address, once it accepts connections."""
    command = [sys.executable, "-m", "portico", "serve", *map(str, arguments), "--port", "0", "--log-level", "warning"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            announced = re.match(r"Portico serves (https?://\S+?)(?:,|$)", line)
            assert announced is not None, (line, process.stderr.read() if process.stderr and not line else "")
            yield process, announced[1]
        finally:
            process.kill()
