"""Growth: by how much each run lets the file grow, after the write-ahead log was moved to it, which the end of a gateway does.

Requests and replies are 200 bytes of JSON each. The target depends on nothing but them: it is not scaled.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from gateway import served
from rounds import Bounds, print_table
from stored_runs import summary
from wrk import load, there_is_wrk

PAYLOAD = 200
TEXT = "x" * (PAYLOAD - len('{"text":""}'))
BODY = f'{{"text":"{TEXT}"}}'


def size(directory: Path) -> int:
    """Bytes of the file, and of what SQLite keeps beside it."""
    return sum(file.stat().st_size for file in directory.glob("portico.db*"))


def bytes_per_run(seconds: float, *, keyed: bool) -> float:
    """Ask for so long with keys, or send without; stop the gateway, and look."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with served(directory):
            pass
        before = size(directory)
        with served(directory) as gateway:
            load(gateway.port, "/agents/echo" if keyed else "/agents/echo/cast", seconds, keyed=keyed, body=BODY)
            gateway.wait_until_settled()
        after = summary(directory)
        runs = after.runs.get("succeeded", 0)
        if runs < 500 or sum(after.runs.values()) != runs:
            raise RuntimeError(f"there are not only succeeded runs, or too few: {after}")
        return (size(directory) - before) / runs


def main(rounds: int = 1, seconds: float = 5) -> bool:
    """Print the table. Returns whether the targets were met."""
    title = f"File growth per run, requests and replies of {PAYLOAD} bytes"
    if not there_is_wrk(title):
        return True
    figures = {
        "send": [bytes_per_run(seconds, keyed=False) for _ in range(rounds)],
        "ask with an Idempotency-Key": [bytes_per_run(seconds, keyed=True) for _ in range(rounds)],
    }
    return print_table(title, figures, None, dict.fromkeys(figures, Bounds(most=1024 + 1.3 * PAYLOAD)), " B")


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
