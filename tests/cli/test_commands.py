"""The commands that print and exit: check, tree, ask, init, and the command line itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from portico.version import __version__
from tests.cli.programs import DEMO, environment, portico, refused, serving, topology

if TYPE_CHECKING:
    from pathlib import Path

DEAD = "mcp:\n  servers:\n    - {name: gone, command: no-such-program-anywhere}\n"


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_says_what_a_sound_topology_has(tmp_path: Path) -> None:
    result = portico("check", topology(tmp_path, "Echo", "Slow"), folder=tmp_path)

    assert result.returncode == 0
    assert "is sound: 2 agents, 4 routes" in result.stdout


def test_check_finds_the_demo_sound(tmp_path: Path) -> None:
    result = portico("check", DEMO, folder=tmp_path)

    assert result.returncode == 0, result.stderr
    assert "1 MCP servers" in result.stdout


def test_check_tells_every_mistake(tmp_path: Path) -> None:
    path = topology(
        tmp_path, more="supervision:\n  children:\n    - {type: agents.Ecko, name: echo}\n    - {type: agents.Slaw, name: s}\n"
    )
    text = refused("check", path, folder=tmp_path)

    assert "2 mistakes" in text
    assert "'Slow'" in text


def test_check_fails_where_an_mcp_server_is_dead_unless_it_stays_offline(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo", more=DEAD)
    text = refused("check", path, folder=tmp_path)
    offline = portico("check", path, "--offline", folder=tmp_path)

    assert "MCP server 'mcp://gone' is down" in text
    assert offline.returncode == 0


def test_check_fails_where_serving_would_be_refused(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo", more='server: {host: "0.0.0.0"}\n')

    assert "PORTICO_API_KEY" in refused("check", path, folder=tmp_path)
    assert portico("check", path, folder=tmp_path, env={"PORTICO_API_KEY": "secret"}).returncode == 0


# --- tree and ask -----------------------------------------------------------------------------------------------------


def test_tree_prints_the_tree_without_starting_it(tmp_path: Path) -> None:
    result = portico("tree", topology(tmp_path, "Echo", "Stillborn"), folder=tmp_path)

    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        "[sup] root (one_for_one)",
        "  [agent] echo (created)",
        "  [agent] stillborn (created)",
    ]


@pytest.mark.parametrize(
    ("arguments", "stdin", "reply"),
    [
        (["echo", '{"a": [1, "é"]}'], b"", {"a": [1, "é"]}),
        (["echo"], b"", {}),
        (["echo", "-"], '{"a": "ü"}'.encode(), {"a": "ü"}),
        (["kinds", "-o", "raw"], b"", "__4="),
    ],
)
def test_ask_prints_the_reply_as_json(tmp_path: Path, arguments: list[str], stdin: bytes, reply: object) -> None:
    topology(tmp_path, "Echo", "Kinds")
    result = portico("ask", *arguments, folder=tmp_path, stdin=stdin)

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == reply
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        (["ecko"], b"", "Did you mean 'echo'"),
        (["kinds", "-o", "rwa"], b"", "Did you mean 'raw'"),
        (["kinds", "-o", "odd"], b"", "not JSON-able"),
        (["echo", "{"], b"", "not JSON"),
        (["echo", "NaN"], b"", "not JSON"),
        (["echo", "-"], b'"\xff"', "not JSON"),
        (["slow", '{"seconds": "many"}'], b"", "at /seconds"),
        (["slow", '{"seconds": 20}', "--timeout", "0.1"], b"", "did not reply"),
        (["echo", "{}", "-t", "none.yaml"], b"", "none.yaml"),
        (["echo", "{}", "--timeout", "0"], b"", "--timeout"),
    ],
)
def test_an_ask_that_fails_is_a_sentence(tmp_path: Path, arguments: list[str], stdin: bytes, text: str) -> None:
    topology(tmp_path, "Echo", "Kinds", "Slow")

    assert text in refused("ask", *arguments, folder=tmp_path, stdin=stdin)


def test_an_ask_that_crashes_its_agent_tells_so(tmp_path: Path) -> None:
    topology(tmp_path, "Kinds")
    command = [sys.executable, "-m", "portico", "ask", "kinds", "-o", "crash"]
    result = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30, check=False)

    assert result.returncode == 1
    assert result.stdout == ""
    assert "Agent 'kinds' crashed 4 times on this message (RuntimeError)." in result.stderr


# --- init -------------------------------------------------------------------------------------------------------------


def test_a_new_project_checks_passes_its_own_test_and_serves(tmp_path: Path) -> None:
    made = portico("init", "greetings", folder=tmp_path)
    project = tmp_path / "greetings"
    tested = subprocess.run(
        [sys.executable, "-m", "unittest"], cwd=project, env=environment(), capture_output=True, text=True, timeout=30, check=False
    )

    assert made.returncode == 0
    assert "portico serve" in made.stdout
    assert tested.returncode == 0, tested.stderr
    assert "Ran 1 test" in tested.stderr
    assert portico("check", folder=project).returncode == 0
    curl = re.search(r"curl --json '(.+)' http://127.0.0.1:8080(\S+)", made.stdout)
    assert curl is not None
    with serving(folder=project) as (_, url):
        assert httpx.post(url + curl[2], json=json.loads(curl[1]), trust_env=False).json() == {"text": "Hello, Ada!", "times": 1}


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text("mine")

    assert "nothing was written" in refused("init", ".", folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["topology.yaml"]


def test_init_where_nothing_can_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "cannot be written" in refused("init", "file/below", folder=tmp_path)


# --- the command line itself ------------------------------------------------------------------------------------------


def test_version_is_that_of_the_package(tmp_path: Path) -> None:
    assert portico("--version", folder=tmp_path).stdout == f"portico {__version__}\n"


def test_help_lists_every_command_and_is_quick(tmp_path: Path) -> None:
    times: list[float] = []
    result = portico("--help", folder=tmp_path)
    for _ in range(3):
        begun = time.monotonic()
        portico("--help", folder=tmp_path)
        times.append(time.monotonic() - begun)

    assert result.returncode == 0
    for command in ("serve", "check", "tree", "ask", "mcp", "init"):
        assert re.search(rf"\b{command}\b", result.stdout)
    assert min(times) < 1.5  # it loads no web framework, no validation library, no MCP


def test_help_loads_nothing_that_a_command_needs(tmp_path: Path) -> None:
    code = "import sys, portico.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=30, check=True)

    assert not {"fastapi", "starlette", "uvicorn", "pydantic", "mcp", "httpx", "yaml", "opentelemetry"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [["sevre"], ["serve", "--prot", "1"], ["ask"], ["check", "a", "b"]])
def test_a_command_line_that_cannot_be_is_refused_with_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    assert "Usage: " in refused(*arguments, folder=tmp_path)


def test_an_unknown_command_suggests_the_nearest(tmp_path: Path) -> None:
    assert "serve" in refused("sevre", folder=tmp_path)


def test_without_a_command_the_help_is_shown(tmp_path: Path) -> None:
    result = portico(folder=tmp_path)

    assert "serve" in result.stdout + result.stderr


def test_a_reader_that_stops_reading_is_no_crash(tmp_path: Path) -> None:
    topology(tmp_path, "Echo")
    command = f"{sys.executable} -m portico tree topology.yaml | true"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30, check=False
    )

    assert "Traceback" not in done.stderr
