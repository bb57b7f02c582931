"""The client over `kill -9`: the server dies while it handles a call, another one starts at the same address, the call goes on."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from portico import Client
from portico.client import ConnectionFailed
from tests.cli.programs import environment

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PATIENCE = 60.0
"""Seconds that a start may take on a busy machine."""

AGENTS = """
import asyncio
from pathlib import Path
from portico import AgentProcess, Context, GenServer, operation

LIFE = len(list(Path().glob("life-*")))
Path(f"life-{LIFE}").touch()


class Till(GenServer):
    async def handle_call(self, payload, from_):
        if LIFE == 0 and payload.get("dies"):
            await asyncio.Event().wait()
        self.state["sum"] = self.state.get("sum", 0) + payload["add"]
        return {"sum": self.state["sum"], "life": LIFE}


class Teller(AgentProcess):
    @operation
    async def tell(self, ctx: Context) -> str:
        ctx.progress(1, 2)
        await ctx.checkpoint(1)
        if LIFE == 0:
            await asyncio.Event().wait()
        ctx.progress(2, 2)
        return "told"
"""
TOPOLOGY = """
supervision:
  name: root
  children:
    - {type: till.Till, name: till}
    - {type: till.Teller, name: teller}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "till.py").write_text(AGENTS)
    (tmp_path / "topology.yaml").write_text(TOPOLOGY)
    return tmp_path


@contextmanager
def life(folder: Path, port: str = "0") -> Generator[tuple[subprocess.Popen[str], str]]:
    """A server process with a store, and its address."""
    command = [sys.executable, "-m", "portico", "serve", "--data", "data", "--port", port, "--log-level", "error"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            announced = re.match(r"Portico serves (http://[^,\s]+)", process.stdout.readline())
            assert announced is not None
            yield process, announced[1]
        finally:
            process.kill()


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


def test_a_keyed_ask_gets_the_one_outcome_of_another_life(folder: Path) -> None:
    with ThreadPoolExecutor() as threads:
        with life(folder) as (process, url), Client(url) as client:
            assert client.ask("till", {"add": 1}) == {"sum": 1, "life": 0}

            def ask() -> Any:
                with Client(url, timeout=PATIENCE, retries=1000) as patient:
                    return patient.ask("till", {"add": 2, "dies": True}, idempotency_key="mine")

            answer = threads.submit(ask)
            (run,) = _handled(client, "till")
            process.kill()
            process.wait()
        with life(folder, port_of(url)), Client(url) as client:
            assert answer.result(PATIENCE) == {"sum": 3, "life": 1}
            assert client.ask("till", {"add": 2, "dies": True}, idempotency_key="mine") == {"sum": 3, "life": 1}
            assert client.ask("till", {"add": 0}) == {"sum": 3, "life": 1}
            assert client.runs.get(run).attempts == 2


def test_a_plain_ask_is_not_made_again_when_its_server_dies_with_it(folder: Path) -> None:
    with ThreadPoolExecutor() as threads, life(folder) as (process, url), Client(url, retries=1000) as client:
        answer = threads.submit(client.ask, "till", {"add": 2, "dies": True})
        _handled(client, "till")
        process.kill()

        error = answer.exception(PATIENCE)

    assert isinstance(error, ConnectionFailed)
    assert error.sent


def test_a_stream_goes_on_in_another_life_and_tells_nothing_twice(folder: Path) -> None:
    events: list[Any] = []
    begun = threading.Event()

    def read(url: str) -> Any:
        with Client(url, timeout=PATIENCE) as client, client.stream("teller") as stream:
            for event in stream:
                events.append(event)
                if event.type == "checkpoint":
                    begun.set()
            return stream.result()

    with ThreadPoolExecutor() as threads:
        with life(folder) as (process, url):
            result = threads.submit(read, url)
            assert begun.wait(PATIENCE)
            process.kill()
            process.wait()
        with life(folder, port_of(url)):
            assert result.result(PATIENCE) == "told"

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.data["done"] for event in events if event.type == "progress"] == [1, 2]
    assert events[-1].type == "run.succeeded"


def test_a_wait_for_a_run_outlives_the_server(folder: Path) -> None:
    with ThreadPoolExecutor() as threads:
        with life(folder) as (process, url):
            client = Client(url, timeout=PATIENCE)
            run_id = client.runs.start("teller").run_id
            with client.runs.events(run_id) as events:
                assert any(event.type == "checkpoint" for event in events)
            ended = threads.submit(client.runs.wait, run_id)
            process.kill()
            process.wait()
        with life(folder, port_of(url)):
            assert ended.result(PATIENCE).output == "told"
        client.close()


def _handled(client: Client, agent: str) -> list[str]:
    """The runs of an agent, once its handler has one in hand."""
    while not (found := [run.run_id for run in client.runs.list(agent=agent, status="running")]):
        threading.Event().wait(0.05)  # politely
    return found
