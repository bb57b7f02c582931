"""Command: where the program of a stdio server is, and a sentence with the nearest right name where it is not there.

A command is a list of words that no shell reads. Above: `child.py`, which starts it, and `portico check`, which only looks.
"""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from portico.errors import did_you_mean, nearest
from portico.mcp_bridge.calling.environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.mcp_bridge.config import MCPServerConfig

MOST_LOOKED_AT: Final = 20_000
"""Programs among which the nearest name is looked for."""


class CommandError(Exception):
    """A stdio server cannot be started as it is configured. Its text is a sentence."""


def found_program(config: MCPServerConfig) -> str:
    """The path of the program. One without a slash is looked for in the server's own PATH, one with it counts from its directory.

    Raises:
        CommandError: there is none, or its directory is not there.
    """
    name = config.argv[0]
    cwd = Path(config.cwd) if config.cwd is not None else Path()
    if not cwd.is_dir():
        raise CommandError(f"its cwd {str(cwd)!r} is no directory")
    path = environment_of(config).get("PATH", os.defpath)
    found = shutil.which(str(cwd / name) if "/" in name else name, path=path)
    if found is None:
        raise CommandError(_missing(name, cwd, path))
    return str(Path(found).absolute())


def _missing(name: str, cwd: Path, path: str) -> str:
    if " " in name.strip():
        return f"there is no program {name!r}: no shell reads a command, so its words after the first go into 'args'"
    if "/" in name and (cwd / name).is_file():
        return f"{name!r} is a file that may not be executed"
    where = str(cwd / name) if "/" in name else "PATH"
    return f"there is no program {name!r} ({where}).{did_you_mean(nearest(name, _programs(name, cwd, path)))}".rstrip(".")


def _programs(name: str, cwd: Path, path: str) -> list[str]:
    if "/" in name:
        parent = (cwd / name).parent
        return [f"{name.rpartition('/')[0]}/{entry}" for entry in _entries(str(parent))]
    found = (entry for directory in path.split(os.pathsep) for entry in _entries(directory) if entry[:1] == name[:1])
    return sorted(set(islice(found, MOST_LOOKED_AT)))


def _entries(directory: str) -> Iterator[str]:
    try:
        with os.scandir(directory or ".") as entries:
            yield from [entry.name for entry in entries if os.access(entry.path, os.X_OK) and entry.is_file()]
    except OSError:
        return
