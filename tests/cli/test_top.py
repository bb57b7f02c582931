"""`portico top` as its users start it: what it prints for a pipe, what it says where it cannot work, and a real terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest

from portico.cli import top
from portico.errors import MissingExtra
from tests.cli.desk import ended, furnished, house, printed, start, until
from tests.cli.programs import environment, portico, refused
from tests.cli.test_runs import Stranger

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

ESCAPES = re.compile(r"\x1b\[[0-9;?<>]*[a-zA-Z]|\x1b[()][A-B0-2]")
COLOURS = re.compile(r"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7])(?:;[0-9]+)*m")


class Terminal:
    """A program in a terminal of 80 by 24."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process = process
        self.raw = ""
        self._handle = handle

    def press(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def until(self, *texts: str, within: float = 30.0) -> None:
        """Until the program has drawn these texts, in whatever order, after all that was waited for before."""
        seen, deadline = "", time.monotonic() + within
        while not all(text in ESCAPES.sub("", seen) for text in texts):
            assert time.monotonic() < deadline, f"no {texts} in {ESCAPES.sub('', seen)[-3000:]!r}"
            seen += self._more()
        self.raw += seen

    def end(self) -> int:
        """Its exit code, once it has ended."""
        while self.process.poll() is None:
            self.raw += self._more()
        self.raw += self._more()
        return self.process.returncode

    def _more(self) -> str:
        try:
            return os.read(self._handle, 65536).decode(errors="replace") if select.select([self._handle], [], [], 0.2)[0] else ""
        except OSError:  # its other end is closed
            return ""


@contextmanager
def terminal(url: str, folder: Path, env: Mapping[str, str] | None = None) -> Generator[Terminal]:
    ours, theirs = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    told = {**environment({"TERM": "xterm-256color", **(env or {})})}
    for name in ("COLUMNS", *(() if env and "NO_COLOR" in env else ("NO_COLOR",))):
        del told[name]
    command = [sys.executable, "-m", "portico", "top", url]
    with subprocess.Popen(
        command, cwd=folder, env=told, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


# --- for a pipe -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, str]]:
    """A house with a run that waits, a dead letter, and a run of an agent with an odd name."""
    folder = furnished(tmp_path_factory.mktemp("top"))
    with house(folder) as (_, url):
        start(url, "editor", {"title": "Waiting", "ask": True}, "asking")
        start(url, "press", {"sheets": 1}, "jammed")
        ended(url, "jammed")
        until(url, "asking", "run.waiting")
        yield folder, url


def test_once_prints_the_tree_and_what_waits_as_plain_text(served: tuple[Path, str]) -> None:
    folder, url = served

    text = printed("top", url, "--once", folder=folder)

    assert text.startswith(f"{url}: 5 processes, 1 waiting for an answer, 1 dead letter\n\nTree\n")
    assert re.search(r"^ +editor +agent +running +1 ", text, re.MULTILINE)
    assert re.search(r"^ +asking +editor .*Print it\?$", text, re.MULTILINE)
    assert re.search(r"^ +jammed +failed +press +press ", text, re.MULTILINE)
    assert re.search(r"^ +jammed +press +press .*Agent 'press' crashed 4 times", text, re.MULTILINE)
    assert "\x1b" not in text


@pytest.mark.parametrize("options", [["--once"], []])
def test_a_gateway_that_is_not_there_is_a_sentence(tmp_path: Path, options: list[str]) -> None:
    text = refused("top", "http://127.0.0.1:9", *options, folder=tmp_path)

    assert ("No gateway answers at http://127.0.0.1:9" in text) == bool(options)
    assert ("This is no terminal. `portico top --once`" in text) != bool(options)


def test_a_key_that_is_missing_or_wrong_is_a_sentence(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder, env={"PORTICO_API_KEY": "s3cret-key-of-house"}) as (_, url):
        without = refused("top", url, "--once", folder=folder)
        wrong = refused("top", url, "--once", folder=folder, env={"PORTICO_API_KEY": "other"})
        right = printed("top", url, "--once", folder=folder, env={"PORTICO_API_KEY": "s3cret-key-of-house"})

    assert "needs an API key: set PORTICO_API_KEY" in without
    assert "does not know the API key" in wrong
    assert "5 processes" in right


def test_a_server_that_is_no_gateway_is_a_sentence(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            text = refused("top", f"http://127.0.0.1:{server.server_port}", "--once", folder=tmp_path)
        finally:
            server.shutdown()
            thread.join(5)

    assert "not as a gateway of this version of Portico does: look at URL" in text


def test_without_textual_it_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("portico.cli.terminal.app")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setitem(sys.modules, "textual.app", None)

    with pytest.raises(MissingExtra, match=r"pip install 'portico\[top\]'"):
        asyncio.run(top.live("http://127.0.0.1:9"))


def test_what_other_commands_load_is_not_more_for_it(tmp_path: Path) -> None:
    program = (
        "import sys, portico.cli; print([name for name in sys.modules if name.startswith(('textual', 'portico.cli.terminal'))])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True)

    assert loaded.stdout == "[]\n"
    assert "top" in portico("--help", folder=tmp_path).stdout


# --- in a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_in_a_terminal_it_outlives_a_kill_of_the_gateway_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder) as (first, url), terminal(url, folder) as screen:
        screen.until("● live", "editor")
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        screen.until("○ lost")
        with house(folder, port=url.rpartition(":")[2]):
            screen.until("● live")
            start(url, "editor", {"title": "Later", "ask": True}, "later-run")
            screen.press("3")
            screen.until("later-run")
            screen.press("q")
            code = screen.end()

    assert code == 0
    assert "\x1b[?1049h" in screen.raw
    assert screen.raw.rindex("\x1b[?1049l") > screen.raw.rindex("\x1b[?1049h")
    assert COLOURS.search(screen.raw)
    assert "Traceback" not in screen.raw


def test_with_no_color_it_has_no_colours(served: tuple[Path, str]) -> None:
    folder, url = served
    with terminal(url, folder, {"NO_COLOR": "1"}) as screen:
        screen.until("editor")
        screen.press("2")
        screen.until("jammed")
        screen.press("q")
        assert screen.end() == 0

    assert COLOURS.findall(screen.raw) == []


def test_a_gateway_that_goes_away_before_the_screen_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with terminal("http://127.0.0.1:9", tmp_path) as screen:
        screen.until("No gateway answers at http://127.0.0.1:9")
        assert screen.end() == 1

    assert "\x1b[?1049h" not in screen.raw


def test_the_dead_letter_of_a_pipe_is_that_of_the_gateway(served: tuple[Path, str]) -> None:
    folder, url = served
    letters = httpx.get(f"{url}/dead-letters", trust_env=False).json()["dead_letters"]

    assert letters[0]["id"] in printed("top", url, "--once", folder=folder)
