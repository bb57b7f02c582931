"""A publishing house whose runs take every way: steps, retries, waits, children, crashes. It is served with a store."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.cli.programs import environment, portico

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

AGENTS = """
import asyncio
from pathlib import Path
from typing import Any
from portico import AgentProcess, Context, operation


class Editor(AgentProcess):
    @operation
    async def publish(self, title: str, ctx: Context, ask: bool = False) -> str:
        tries = []

        async def fetch():
            tries.append(1)
            if len(tries) < 2:
                raise RuntimeError("no paper")
            return title.upper()

        text = await ctx.step("fetch", fetch, retries=2, retry_delay=0.001)
        ctx.progress(1, 2, "written")
        ctx.emit("mood", {"good": True})
        if ask:
            schema = {"type": "object", "required": ["yes"]}
            answer = await ctx.wait_input("Print it?", schema=schema)
            text = f"{text}, {answer['yes']}"
        await self.send("printer", {"text": text}, "print_it")
        self.state["last"] = title
        return text


class Printer(AgentProcess):
    @operation
    async def print_it(self, text: str) -> None:
        self.state["pages"] = self.state.get("pages", 0) + 1


class Press(AgentProcess):
    @operation
    async def press(self, sheets: Any = 1) -> str:
        if not Path("mended").exists():
            raise RuntimeError("jammed")
        return "pressed"


class Bell(AgentProcess):
    async def handle(self, message):
        return None


class Reader(AgentProcess):
    @operation
    async def read(self, pages: int = 1) -> str:
        await asyncio.sleep(3600)
        return "read"
"""

TOPOLOGY = """
supervision:
  name: root
  backoff_base: 0.001
  children:
    - {type: house.Editor, name: editor}
    - {type: house.Printer, name: printer}
    - {type: house.Press, name: press}
    - {type: house.Bell, name: bell}
    - {type: house.Reader, name: reader}
store: {type: sqlite, path: data}
"""


def furnished(folder: Path) -> Path:
    """A folder with the agents and `topology.yaml`."""
    (folder / "house.py").write_text(AGENTS)
    (folder / "topology.yaml").write_text(TOPOLOGY)
    return folder


@contextmanager
def house(folder: Path, *, port: str = "0", env: Mapping[str, str] | None = None) -> Generator[tuple[subprocess.Popen[str], str]]:
    """The process that serves it, and its address, once it accepts connections."""
    command = [sys.executable, "-m", "portico", "serve", "--port", port, "--log-level", "error"]
    with subprocess.Popen(command, cwd=folder, env=environment(env), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            announced = re.match(r"Portico serves (http://[^,\s]+)", process.stdout.readline())
            assert announced is not None
            yield process, announced[1]
        finally:
            process.kill()


def start(url: str, agent: str, payload: object, run_id: str) -> str:
    """Start a run of that id."""
    httpx.post(f"{url}/runs", json={"agent": agent, "payload": payload, "run_id": run_id}, trust_env=False).raise_for_status()
    return run_id


def ended(url: str, run_id: str) -> dict[str, Any]:
    """The run, once it has ended."""
    record = httpx.get(f"{url}/runs/{run_id}?wait=30", timeout=40, trust_env=False).json()
    assert record["finished_at"] is not None, record
    return record


def until(url: str, run_id: str, event: str) -> None:
    """Until a run has emitted an event of that name."""
    with httpx.stream("GET", f"{url}/runs/{run_id}/events", timeout=30, trust_env=False) as response:
        assert any(line == f"event: {event}" for line in response.iter_lines())


def printed(*arguments: str | Path, folder: Path, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
    """Run a command that works: what it prints."""
    result = portico(*arguments, folder=folder, stdin=stdin, env=env)
    assert result.returncode == 0, result.stderr
    return result.stdout


def data(*arguments: str | Path, folder: Path) -> Any:
    """Run a command that prints JSON, and read that."""
    return json.loads(printed(*arguments, "--json", folder=folder))
