"""What the tests of the documentation share: pages cut into blocks, commands run, the demo served."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo"
WRITTEN = "127.0.0.1:8080"
"""The address that pages have in their commands."""
PATIENCE = 45
"""Seconds that one command, or a start, may take on a busy machine."""

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_COMMAND = re.compile(r"^\$ (.+)\n", re.MULTILINE)
_ANNOUNCED = re.compile(r"Portico serves http://(?P<address>[^,\s]+)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None
    """Why it is not run; None where it is."""

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of one language that are to be run, in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, match.start("text")), match["language"], match["text"], match["reason"])
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if block.language == language and block.reason is None]


def programs(page: Path) -> list[tuple[Block, str]]:
    """The `python` blocks that are to be run, each with what the page says that it prints: the `text` block that follows it."""
    parts = [match for match in _BLOCK.finditer(page.read_text(encoding="utf-8")) if match["language"] in ("python", "text")]
    outputs = {
        match["text"]: after["text"]
        for match, after in pairwise(parts)
        if match["language"] == "python" and after["language"] == "text"
    }
    return [(block, outputs.get(block.text, "")) for block in blocks(page, "python")]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a `console` block, with the output that the page prints below it."""
    _, *parts = _COMMAND.split(block.text)
    yield from zip(parts[::2], (output.strip("\n") for output in parts[1::2]), strict=True)


def matches(printed: str, expected: str) -> bool:
    """Whether a command printed what the page says; `…` stands for anything within its line."""
    pattern = r"[^\n]*".join(map(re.escape, expected.split("…")))
    return re.fullmatch(pattern, printed.replace("\r\n", "\n").strip("\n")) is not None


# --- processes --------------------------------------------------------------------------------------------------------


def tools(folder: Path) -> Path:
    """A folder with a `portico` command, and a `python`, of this checkout and this interpreter."""
    folder.mkdir()
    for name, rest in (("portico", ' -m portico "$@"'), ("python", ' "$@"')):
        script = folder / name
        script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}"{rest}\n')
        script.chmod(0o755)
    return folder


def environment(home: Path) -> dict[str, str]:
    """As on a fresh machine: an empty home, none of the developer's settings, `portico` on the path."""
    bin_ = tools(home / "bin")
    return {"HOME": str(home), "PATH": f"{bin_}:{os.environ['PATH']}", "LANG": "C.UTF-8", "NO_PROXY": "*", "NO_COLOR": "1"}


def run(command: str, *, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one shell command to its end; what it complains about is printed last."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def serving(command: str, *, cwd: Path, env: dict[str, str]) -> Generator[str]:
    """A `portico serve` on a free port; yields its address. It ends cleanly when it is told to."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command} --port 0 --log-level error"],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            announced = server.stdout.readline()
            found = _ANNOUNCED.match(announced)
            assert found is not None, f"{command} said {announced!r}"
            yield found["address"]
            server.terminate()
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()


def differences(block: Block, address: str, *, cwd: Path, env: dict[str, str]) -> list[str]:
    """Run the commands of a `console` block, in order; tell each whose output is not what the page prints."""
    told: list[str] = []
    for command, expected in commands(block):
        printed = run(command.replace(WRITTEN, address), cwd=cwd, env=env).stdout
        if not matches(printed, expected):
            told.append(f"{block}\n$ {command}\nexpected:\n{expected}\nprinted:\n{printed}")
    return told
