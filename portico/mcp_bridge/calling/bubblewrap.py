"""Bubblewrap: a stdio server inside bubblewrap: a read-only system, its directory, no network, no other processes, nothing of home.

Where a sandbox is asked for and there is none, the server is refused: it never runs without. Above: `child.py`, which starts what
stands here. It is a wall around a program that is not trusted with our files; it is no wall around what the program may do with
what it is given: its tools, its answers, and the network where that is open.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from portico.mcp_bridge.calling.command import CommandError

if TYPE_CHECKING:
    from portico.mcp_bridge.config import MCPServerConfig
    from portico.mcp_bridge.sandbox import Sandbox

PROGRAM: Final = "bwrap"
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt")
"""What every program needs to run, read-only, as far as it is there."""
SETTINGS: Final = (
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki",
    "/etc/ssl",
)
"""What is shown of /etc; never all of it: who runs the gateway as root could read /etc/shadow."""
OF_THE_NETWORK: Final = ("/etc/hosts", "/etc/resolv.conf", "/etc/gai.conf")
"""What is shown besides where the network is open."""
PROBE_PATIENCE: Final = 10.0
"""Seconds that bubblewrap has to show that it works here."""


def sandboxed(config: MCPServerConfig, box: Sandbox, program: str) -> list[str]:
    """The command line that runs a server inside. `program`: the path of what it runs.

    Raises:
        CommandError: there is no bubblewrap, it does not work here, or a path is not there.
    """
    bwrap = _working_bwrap()
    cwd = Path(config.cwd or ".").resolve()
    if cwd == Path("/"):
        raise CommandError("its sandbox would show it the whole machine: give it a 'cwd' below /")
    line = [
        bwrap,
        "--die-with-parent",
        "--new-session",
        "--unshare-all",
        *(["--share-net"] if box.network else []),
        "--cap-drop",
        "ALL",
        "--hostname",
        "sandbox",
    ]
    for path in (*SYSTEM, *SETTINGS, *(OF_THE_NETWORK if box.network else ())):
        line += ["--ro-bind-try", path, path]
    line += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run"]  # noqa: S108  # its own, empty one
    for path in (*_of_the_program(config, program), cwd, *(_there(cwd, path) for path in box.read)):
        line += ["--ro-bind", str(path), str(path)]
    for path in (_there(cwd, path) for path in box.write):
        line += ["--bind", str(path), str(path)]
    # It runs what was found, under the name that it was called by: an interpreter finds its libraries by that.
    return [*line, "--chdir", str(cwd), "--", program, *config.argv[1:]]


def _of_the_program(config: MCPServerConfig, program: str) -> list[Path]:
    """What of the program lies outside the system: this interpreter with its packages, or the program alone."""
    paths = [Path(program), Path(program).resolve()]
    if config.argv[0] == sys.executable:
        paths = [Path(sys.prefix), Path(sys.base_prefix).resolve(), *paths]
    shown: list[Path] = []
    for path in paths:
        if not any(path.is_relative_to(other) for other in (*map(Path, SYSTEM), *shown)):
            shown.append(path)
    return shown


def _there(cwd: Path, path: str) -> Path:
    whole = (cwd / Path(path).expanduser()).resolve()
    if not whole.exists():
        raise CommandError(f"its sandbox is to show it {path!r}, which is not there")
    return whole


def _working_bwrap() -> str:
    bwrap = shutil.which(PROGRAM)
    never = "it is not started without its sandbox"
    if bwrap is None:
        raise CommandError(f"there is no bubblewrap ({PROGRAM}) on this machine, and {never}: install the package 'bubblewrap'")
    try:
        tried = subprocess.run(  # noqa: S603  # a fixed command line
            [bwrap, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"],
            capture_output=True,
            timeout=PROBE_PATIENCE,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"bubblewrap does not work here ({type(error).__name__}), and {never}") from None
    if tried.returncode != 0:
        said = tried.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1][:200] if said else f"exit code {tried.returncode}"
        raise CommandError(f"bubblewrap does not work here ({reason}), and {never}")
    return bwrap
