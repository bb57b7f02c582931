"""`portico mcp TOPOLOGY`: whatever a user's code and its children print, and whatever a line has: stdout has the protocol alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.programs import environment, portico, refused

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LOUD = """
import atexit, logging, os, subprocess, sys, threading
from portico import AgentProcess, operation

print("at import")
os.write(1, b"at import, raw\\n")
sys.stdout.write("at import, without an end")
subprocess.run([sys.executable, "-c", "print('a child at import')"], check=True)
atexit.register(lambda: print("at exit"))
atexit.register(lambda: os.write(1, b"at exit, raw\\n"))
atexit.register(lambda: sys.__stdout__.write("at exit, to the first stdout"))
OLD = sys.stdout
logging.basicConfig(stream=sys.stdout, level="DEBUG")


class Loud(AgentProcess):
    async def on_start(self):
        print("at start")

    async def on_stop(self):
        print("at stop")
        sys.__stdout__.write("at stop, to the first stdout")

    @operation
    async def talk(self, text: str) -> str:
        print("in a handler")
        print("in a handler, to the first stdout", file=sys.__stdout__, flush=True)
        OLD.write("to an old stdout")
        os.write(1, b"raw")
        os.system("echo in a shell")
        subprocess.run([sys.executable, "-c", "import os; print('in a child'); os.write(1, b'x')"], check=True)
        assert subprocess.run(["cat"], capture_output=True).stdout == b""
        threading.Thread(target=print, args=("in a thread",)).start()
        logging.getLogger("anything").warning("in a log")
        return text

    @operation
    async def linger(self) -> str:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3); print('late')"])
        return "left a child behind"
"""
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def call(key: Any, name: str, **arguments: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": key, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


@pytest.fixture
def loud(tmp_path: Path) -> Path:
    (tmp_path / "loud.py").write_text(LOUD)
    path = tmp_path / "topology.yaml"
    path.write_text("supervision:\n  name: root\n  children:\n    - {type: loud.Loud, name: loud}\n")
    return path


class Talk:
    """A client by hand."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.to, self.of = process.stdin, process.stdout

    def say(self, *messages: Any) -> None:
        for message in messages:
            self.to.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
        self.to.flush()

    def hear(self) -> dict[str, Any]:
        """The next message: every line is one."""
        line = self.of.readline()
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def begin(self) -> None:
        self.say(INITIALIZE)
        assert self.hear()["id"] == 0
        self.say(INITIALIZED)

    def rest(self) -> tuple[bytes, bytes]:
        """What it says until it has ended."""
        out, err = self.process.communicate(timeout=40)
        return out, err


@contextmanager
def talking(topology: Path) -> Generator[Talk]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "portico", "mcp", str(topology)]
    with subprocess.Popen(command, cwd=topology.parent, env=environment(), stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield Talk(process)
        finally:
            process.kill()


@pytest.mark.parametrize("end", [None, signal.SIGTERM, signal.SIGINT])
def test_nothing_but_the_protocol_is_on_stdout_whoever_prints(loud: Path, end: signal.Signals | None) -> None:
    with talking(loud) as talk:
        talk.begin()
        for number in range(1, 4):
            talk.say(call(number, "loud-talk", text=f"hello {number}"))
            answer = talk.hear()
            assert answer["id"] == number
            assert f"hello {number}" in json.dumps(answer)
        if end is not None:
            talk.process.send_signal(end)
        out, err = talk.rest()
    assert out == b""
    assert talk.process.returncode == 0
    told = err.decode()
    for line in (
        "at import",
        "at import, raw",
        "a child at import",
        "at start",
        "in a handler",
        "to an old stdout",
        "in a shell",
        "in a child",
        "in a thread",
        "at stop",
        "at exit",
        "at exit, raw",
        "at exit, to the first stdout",
    ):
        assert line in told, line
    assert "Traceback" not in told


def test_a_child_that_is_left_behind_has_no_hold_of_the_wire(loud: Path) -> None:
    with talking(loud) as talk:
        talk.begin()
        talk.say(call(1, "loud-linger"))
        assert "left a child behind" in json.dumps(talk.hear())
        talk.to.close()
        assert talk.of.read() == b""  # the end comes although the child lives
        talk.process.wait(40)
    assert talk.process.returncode == 0


def test_garbage_and_lines_that_are_too_long_are_answered_or_passed_over_and_calls_go_on(loud: Path) -> None:
    with talking(loud) as talk:
        talk.begin()
        garbage: list[bytes] = [
            b"rubbish",
            b"[]",
            b"7",
            b"\x00\xff\xfe",
            b"",
            b"   ",
            b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
            b'{"jsonrpc":"2.0","id":[1],"method":"ping"}',
            b'{"jsonrpc":"2.0","id":7,"method":7}',
            b'{"jsonrpc":"1.0","id":7,"method":"ping"}',
            b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}',
            b'{"jsonrpc":"2.0","id":7,"result":{}}',
            b'{"a":NaN}',
            b"[" * 100_000,
            b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
            b"x" * (33 * 1024 * 1024),
        ]
        for line in garbage:
            talk.say(line)
        talk.say(call("after", "loud-talk", text="still here"))
        while (answer := talk.hear()).get("id") != "after":
            assert "error" in answer
        assert "still here" in json.dumps(answer)
        talk.to.close()
        out, err = talk.of.read(), b""
        assert talk.process.stderr is not None
        err = talk.process.stderr.read()
        talk.process.wait(40)
    assert out == b""
    assert talk.process.returncode == 0
    assert b"Traceback" not in err


def test_a_client_that_no_longer_reads_ends_it_without_a_traceback(loud: Path) -> None:
    with talking(loud) as talk:
        talk.begin()
        talk.of.close()
        talk.say(call(1, "loud-talk", text="to nobody"))
        assert talk.process.stderr is not None
        told = talk.process.stderr.read()
        talk.process.wait(40)
    assert talk.process.returncode == 0
    assert b"Traceback" not in told
    assert b"BrokenPipe" not in told


def test_a_topology_that_cannot_be_served_is_a_sentence_and_no_protocol(tmp_path: Path) -> None:
    assert "topology" in refused("mcp", "nowhere.yaml", folder=tmp_path)
    (tmp_path / "broken.py").write_text("print('at import')\nraise RuntimeError('no')\n")
    path = tmp_path / "topology.yaml"
    path.write_text("supervision:\n  name: root\n  children:\n    - {type: broken.Agent, name: a}\n")
    assert "broken" in refused("mcp", path, folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("topology.yaml", "--url", "http://127.0.0.1:1/mcp"), "not both"),
        (("--header", "a: b"), "Only with --url"),
        (("--url", "http://127.0.0.1:1/mcp", "--header", "nothing"), "Name: value"),
        (("--url", "http://127.0.0.1:1/mcp", "--header", "a: ü\u2028"), "cannot be sent"),
        (("--url", "127.0.0.1:1/mcp"), "no address of an MCP endpoint"),
        (("--url", "ftp://a/mcp"), "no address of an MCP endpoint"),
        (("--url", "http://me:secret@a/mcp"), "no address of an MCP endpoint"),
    ],
)
def test_mistakes_on_the_command_line_are_told(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    told = " ".join(refused("mcp", *arguments, folder=tmp_path).split())
    assert sentence in told
    assert "secret" not in told


def test_without_a_client_it_ends(loud: Path) -> None:
    done = portico("mcp", loud, folder=loud.parent)
    assert done.stdout == ""
