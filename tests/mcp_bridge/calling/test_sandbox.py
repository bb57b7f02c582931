"""stdio servers get little of ours: a small environment, and inside bubblewrap neither files nor network nor processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from portico.errors import MCPServerUnavailable
from portico.mcp_bridge.calling import bubblewrap
from portico.mcp_bridge.calling.bubblewrap import sandboxed
from portico.mcp_bridge.calling.command import CommandError, found_program
from portico.mcp_bridge.config import MCPServerConfig
from portico.mcp_bridge.sandbox import Sandbox
from tests.mcp_bridge.helpers import RAW_SERVER, upstreams

pytestmark = pytest.mark.anyio


def _bwrap_works() -> bool:
    bwrap = shutil.which("bwrap")
    line = [str(bwrap), "--unshare-all", "--ro-bind", "/", "/", "true"]
    return bwrap is not None and subprocess.run(line, capture_output=True, check=False).returncode == 0


needs_bwrap = pytest.mark.skipif(not _bwrap_works(), reason="bubblewrap is not installed here, or cannot make namespaces")


def raw(tmp_path: Path, **settings: Any) -> MCPServerConfig:
    """The test server, which is copied where it runs: its own directory is all that it sees."""
    here = tmp_path / "server"
    here.mkdir(exist_ok=True)
    (here / "raw_server.py").write_text(RAW_SERVER.read_text())
    return MCPServerConfig("raw", command="python", args=["raw_server.py"], cwd=here, **settings)


async def look(config: MCPServerConfig, **arguments: Any) -> dict[str, Any]:
    """What the server sees."""
    with anyio.fail_after(40):
        async with upstreams(config) as tools:
            return json.loads(await tools.get("mcp://raw/look").execute(**arguments))


async def refusal(config: MCPServerConfig) -> str:
    """Why a server is not connected."""
    with anyio.fail_after(40):
        async with upstreams() as tools:
            with pytest.raises(MCPServerUnavailable) as refused:
                await tools.connect_mcp(config)
            return str(refused.value)


# --- the environment --------------------------------------------------------------------------------------------------


async def test_server_inherits_the_allow_list_and_what_its_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_API_KEY", "secret")
    monkeypatch.setenv("PROXY_OF_THE_HOUSE", "here")
    monkeypatch.setenv("TERM", "() { :; }")
    seen = (await look(raw(tmp_path, inherit_env=["PROXY_OF_THE_HOUSE", "NOT_SET"], env={"GIVEN": "yes"})))["environment"]
    assert seen["PROXY_OF_THE_HOUSE"] == "here"
    assert seen["GIVEN"] == "yes"
    seen.pop("LC_CTYPE", None)  # Python sets it for itself
    assert set(seen) <= {"HOME", "LOGNAME", "PATH", "SHELL", "USER", "PROXY_OF_THE_HOUSE", "GIVEN"}


async def test_server_inherits_no_descriptor_of_ours(tmp_path: Path) -> None:
    seen = await look(raw(tmp_path))
    assert set(seen["descriptors"]) <= {"0", "1", "2", "3"}  # the last is that of looking


# --- the command ------------------------------------------------------------------------------------------------------


async def test_command_that_is_not_there_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "my-server").write_text("#!/bin/sh\n")
    (tmp_path / "my-server").chmod(0o755)
    path = {"PATH": str(tmp_path)}
    said = await refusal(MCPServerConfig("raw", command="my-sever", env=path, cwd=tmp_path))
    assert "there is no program 'my-sever' (PATH). Did you mean 'my-server'?" in said
    assert "./my-server" in await refusal(MCPServerConfig("raw", command="./my-sever", cwd=tmp_path))
    (tmp_path / "my-server").chmod(0o644)
    assert "may not be executed" in await refusal(MCPServerConfig("raw", command="./my-server", cwd=tmp_path))
    assert "no shell reads a command" in await refusal(MCPServerConfig("raw", command="python -m server", cwd=tmp_path))
    assert "is no directory" in await refusal(MCPServerConfig("raw", command="sh", cwd=tmp_path / "nowhere"))


async def test_arguments_reach_the_program_as_they_are_and_no_shell_reads_them(tmp_path: Path) -> None:
    script = tmp_path / "echo.sh"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > said\n')
    script.chmod(0o755)
    await refusal(MCPServerConfig("raw", command="./echo.sh", args=["$(touch hacked)", "a b; c"], cwd=tmp_path))
    assert (tmp_path / "said").read_text() == "$(touch hacked)\na b; c\n"
    assert not (tmp_path / "hacked").exists()


# --- the sandbox ------------------------------------------------------------------------------------------------------


@needs_bwrap
async def test_sandboxed_server_sees_its_directory_and_the_system_and_nothing_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the key of the house")
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "data").write_text("its data")
    own = tmp_path / "server" / "data"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        paths = [str(secret), str(own), "/etc/shadow", "/tmp", str(Path.home())]
        seen = await look(raw(tmp_path, sandbox=True), read=paths, write=[str(own), "/tmp/mine", "/usr/mine"], port=port)
    assert seen[str(secret)] == "FileNotFoundError"
    assert seen[str(own)] == "its data"
    assert seen["/etc/shadow"] == "FileNotFoundError"
    assert seen[f"write {own}"] == "OSError"  # read-only
    assert seen["write /tmp/mine"] == "done"  # its own
    assert seen["write /usr/mine"] == "OSError"
    assert seen["port"] != "connected"
    assert str(os.getpid()) not in seen["processes"]
    assert len(seen["processes"]) <= 3
    assert set(seen["descriptors"]) <= {"0", "1", "2", "3"}
    assert "PORTICO" not in json.dumps(seen["environment"])


@needs_bwrap
async def test_sandbox_opens_what_its_settings_name(tmp_path: Path) -> None:
    shared, out = tmp_path / "shared", tmp_path / "out"
    shared.mkdir()
    out.mkdir()
    (shared / "a").write_text("shared")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        box = {"network": True, "read": ["../shared"], "write": [str(out)]}
        there = {"read": [str(shared / "a")], "write": [str(shared / "b"), str(out / "c")]}
        seen = await look(raw(tmp_path, sandbox=box), port=listening.getsockname()[1], **there)
    assert seen[str(shared / "a")] == "shared"
    assert seen[f"write {shared / 'b'}"] == "OSError"
    assert (out / "c").read_text() == "written"
    assert seen["port"] == "connected"


@needs_bwrap
async def test_sandboxed_server_leaves_nothing_behind(tmp_path: Path) -> None:
    await look(raw(tmp_path, sandbox=True))
    ps = await anyio.run_process(["ps", "-eo", "args"])
    assert not [line for line in ps.stdout.decode().splitlines() if str(tmp_path) in line]


async def test_server_is_refused_where_there_is_no_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "notes"
    monkeypatch.setattr(bubblewrap, "PROGRAM", "bwrap-that-is-not-there")
    config = raw(tmp_path, sandbox=True)
    said = await refusal(MCPServerConfig("raw", command="touch", args=[str(notes)], cwd=config.cwd, sandbox=True))
    assert "there is no bubblewrap" in said
    assert "not started without its sandbox" in said
    assert not notes.exists()


async def test_server_is_refused_where_bubblewrap_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "PROGRAM", str(broken))
    said = await refusal(raw(tmp_path, sandbox=True))
    assert "bubblewrap does not work here (bwrap: No permissions to create new namespace)" in said


@needs_bwrap
def test_command_line_is_that_of_the_settings(tmp_path: Path) -> None:
    config = raw(tmp_path, sandbox=True)
    line = sandboxed(config, Sandbox(), found_program(config))
    told, _, run = " ".join(line).partition(" -- ")
    for option in ("--die-with-parent", "--new-session", "--unshare-all", "--cap-drop ALL", f"--chdir {config.cwd}"):
        assert option in told
    assert "--share-net" not in told
    assert "--bind " not in told
    assert run == f"{sys.executable} raw_server.py"
    assert "--share-net" in sandboxed(config, Sandbox(network=True), found_program(config))
    with pytest.raises(CommandError, match="is not there"):
        sandboxed(config, Sandbox(read=["nowhere"]), found_program(config))
    with pytest.raises(CommandError, match="whole machine"):
        sandboxed(MCPServerConfig("raw", command="sh", cwd="/"), Sandbox(), "/bin/sh")
