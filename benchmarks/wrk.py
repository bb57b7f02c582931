"""Wrk: the client of the durable benchmarks over HTTP, with an idempotency key for every request where that is wanted.

`load.py` cannot stand in: it takes more of the machine than what it would measure.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from http_asks import pinned

BODY = '{"text": "hello"}'
POST = """wrk.method = "POST"; wrk.body = '%s'; wrk.headers["Content-Type"] = "application/json"
"""
KEYED = """local head, tail, number = nil, nil, 0
function init(arguments)
  wrk.headers["Idempotency-Key"] = arguments[1] .. "-@"
  local text = wrk.format()
  local at = text:find("-@", 1, true)
  head, tail = text:sub(1, at), text:sub(at + 2)
end
function request()
  number = number + 1
  return head .. number .. tail
end
"""
"""Counts the keys up; the request is put together once, so that a key costs the client nothing."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of one load."""

    rate: float
    """Answers of 2xx per second."""
    refused: int
    """Answers of anything else."""
    count: int
    """All of them."""


def there_is_wrk(what: str) -> bool:
    """Whether it is installed; says what is not measured where it is not."""
    if shutil.which("wrk") is None:
        print(f"\n{what}: NOT MEASURED, there is no `wrk` (Debian: apt-get install wrk)")
        return False
    return True


def load(port: int, path: str, seconds: float, *, keyed: bool = False, connections: int = 32, body: str = BODY) -> Answers:
    """POST for so many seconds. Raises `RuntimeError` where connections broke."""
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        script.write_text(POST % body + (KEYED if keyed else ""))
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
        command = ["wrk", *options, f"http://127.0.0.1:{port}{path}", "--", uuid.uuid4().hex]
        printed = subprocess.run(pinned(1, command), check=True, capture_output=True, text=True).stdout  # our own command
    return read(printed)


def read(printed: str) -> Answers:
    """What wrk says. Raises `RuntimeError` where connections broke."""
    found = re.search(r"(\d+) requests in.*Requests/sec:\s*([\d.]+)", printed, flags=re.DOTALL)
    if found is None or "Socket errors" in printed:
        raise RuntimeError(printed)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    refused, all_of_them = int(others[1]) if others else 0, int(found[1])
    return Answers(float(found[2]) * (all_of_them - refused) / max(1, all_of_them), refused, all_of_them)


def rate(port: int, path: str, seconds: float, *, keyed: bool = False, connections: int = 32) -> float:
    """Requests per second. Raises `RuntimeError` where one was answered with anything but a 2xx."""
    answers = load(port, path, seconds, keyed=keyed, connections=connections)
    if answers.refused:
        raise RuntimeError(f"{answers.refused} requests to {path} were answered with an error")
    return answers.rate
