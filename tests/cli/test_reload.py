"""`portico serve --reload` as a process: what an edit changes, what a mistake does not, and that nothing is left behind."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.programs import environment, refused, topology

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from pathlib import Path

PATIENCE = 50
"""Seconds for a check and a start on a busy machine."""

pytestmark = pytest.mark.timeout(240)

AGENT = """
from portico import AgentProcess


class Teller(AgentProcess):
    async def handle(self, message):
        return "{word}"
"""


class Reloading:
    """A `portico serve --reload` that runs; what it says comes line by line."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.said: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        for stream in (process.stdout, process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.url = self.until(r"Portico serves (http\S+?),")

    def _read(self, stream: Iterable[str] | None) -> None:
        for line in stream or ():
            self._lines.put(line)

    def until(self, pattern: str) -> str:
        """Until it says a line; what the pattern's group found in it."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                pytest.fail(f"{pattern!r} was not said: {self.said}")
            self.said.append(line)
            found = re.search(pattern, line)
            if found is not None:
                return found[found.lastindex or 0]

    def write(self, text: str, name: str = "words.py") -> None:
        """An editor saves a file."""
        (self.folder / name).write_text(text)

    def ask(self) -> str:
        """An ask on a new connection: it is never refused."""
        return httpx.post(f"{self.url}/agents/teller", timeout=PATIENCE, trust_env=False).json()

    def servers(self) -> list[int]:
        """The processes that serve."""
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in children.stdout.split()]


@contextmanager
def reloading(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Generator[Reloading]:
    path = topology(folder, "Echo", more="    - {type: words.Teller, name: teller, expose: true}\n")
    (folder / "words.py").write_text(AGENT.format(word="one"))
    command = [sys.executable, "-m", "portico", "serve", str(path), "--reload", "--port", "0", "--log-level", "warning", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Reloading(process, folder)
        finally:
            process.kill()


def until_gone(pid: int) -> None:
    """Until there is no such process."""
    for _ in range(PATIENCE * 20):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} has outlived its parent")


@pytest.mark.slow
def test_an_edit_is_served_without_a_refused_connection_and_a_mistake_is_not(tmp_path: Path) -> None:
    with reloading(tmp_path) as one:
        assert one.ask() == "one"
        answers: list[str] = []
        ended = threading.Event()

        def ask_on() -> None:
            while not ended.is_set():
                answers.append(one.ask())

        asking = threading.Thread(target=ask_on)
        asking.start()
        try:
            one.write(AGENT.format(word="two"))
            one.until(r"words\.py changed: the server starts anew")
            assert one.until(r"Portico serves (http\S+?),") == one.url
            assert one.ask() == "two"

            one.write("class Teller(:")
            one.until(r"words\.py changed, and what was served goes on")
            one.until("words.py.*invalid syntax|words.Teller")
            assert one.ask() == "two"

            one.write(AGENT.format(word="three"))
            one.until("Portico serves")
            assert one.ask() == "three"
        finally:
            ended.set()
            asking.join(PATIENCE)

    assert list(dict.fromkeys(answers)) in (["one", "two", "three"], ["one", "two"])
    assert not [line for line in one.said if "Traceback" in line]


@pytest.mark.slow
def test_a_data_directory_is_handed_on(tmp_path: Path) -> None:
    with reloading(tmp_path, "--data", "data") as one:
        sent = httpx.post(f"{one.url}/agents/teller/cast", timeout=PATIENCE, trust_env=False)
        assert sent.status_code == 202
        (tmp_path / "notes.txt").write_text("nothing that is served")
        one.write((tmp_path / "topology.yaml").read_text() + "routes:\n  - {path: /tell, agent: teller}\n", "topology.yaml")
        one.until(r"topology\.yaml changed: the server starts anew")
        one.until("Portico serves")

        assert httpx.post(f"{one.url}/tell", timeout=PATIENCE, trust_env=False).json() == "one"
        assert httpx.get(f"{one.url}{sent.headers['location']}", timeout=PATIENCE, trust_env=False).status_code == 200


@pytest.mark.slow
def test_a_server_that_ends_by_itself_is_told_and_started_at_the_next_edit(tmp_path: Path) -> None:
    with reloading(tmp_path) as one:
        one.write(AGENT.format(word="two") + '\n    async def on_start(self):\n        raise RuntimeError("not today")\n')
        one.until("not today")
        one.until("The server has ended with code 1. It starts anew when a file changes.")
        one.write(AGENT.format(word="three"))
        one.until("Portico serves")
        assert one.ask() == "three"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_ends_all(tmp_path: Path, number: signal.Signals) -> None:
    with reloading(tmp_path) as one:
        servers = one.servers()
        one.process.send_signal(number)
        assert one.process.wait(PATIENCE) == 0
        assert len(servers) == 1
        until_gone(servers[0])


def test_a_parent_that_is_killed_leaves_no_orphan(tmp_path: Path) -> None:
    with reloading(tmp_path) as one:
        (server,) = one.servers()
        one.process.kill()
        until_gone(server)


def test_what_cannot_be_served_at_first_is_a_sentence(tmp_path: Path) -> None:
    assert "words" in refused(
        "serve", topology(tmp_path, more="supervision: {children: [{type: words.None}]}"), "--reload", folder=tmp_path
    )
    assert "PORTICO_API_KEY" in refused("serve", topology(tmp_path, "Echo"), "--reload", "--host", "0.0.0.0", folder=tmp_path)
