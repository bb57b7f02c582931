"""The README is run: every command and program in it does what it says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.docs.pages import DEMO, ROOT, WRITTEN, Block, blocks, commands, differences, environment, matches, run, serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

README = ROOT / "README.md"
STARTS = "portico serve"
"""Stands in the `console` blocks that start a server of their own; the others are about the one of `make run`."""


def shell_blocks(containing: str) -> list[str]:
    """The lines of the `sh` blocks in which something stands, without their comments."""
    found = [block.text for block in blocks(README, "sh") if containing in block.text]
    return [re.sub(r"\s+# .*", "", line) for text in found for line in text.splitlines()]


# --- the demo ---------------------------------------------------------------------------------------------------------


@needs_curl
def test_every_command_of_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    env = environment(tmp_path)
    told: list[str] = []
    with serving("portico serve examples/demo/topology.yaml", cwd=ROOT, env=env) as address:
        for block in blocks(README, "console"):
            if STARTS not in block.text:
                told += differences(block, address, cwd=ROOT, env=env)
    assert told == [], "\n\n".join(told)


@needs_curl
def test_what_is_killed_and_started_again_goes_on_as_the_readme_shows(tmp_path: Path) -> None:
    env, address, told = environment(tmp_path), WRITTEN, list[str]()
    own = [block for block in blocks(README, "console") if STARTS in block.text]
    assert any("kill -9" in block.text for block in own)
    with ExitStack() as servers:
        for command, expected in (found for block in own for found in commands(block)):
            if command.endswith(" &"):
                printed = servers.enter_context(started(command.removesuffix(" &"), env)).readline()
                address = re.findall(r"http://([^,\s]+)", printed)[0]
                printed = printed.replace(address, WRITTEN)
            else:
                here = re.sub(r"portico runs \w+ [\w-]+", rf"\g<0> --url http://{address}", command.replace(WRITTEN, address))
                printed = run(here, cwd=ROOT, env=env).stdout
            if not matches(printed, expected):
                told.append(f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}")
    assert told == [], "\n\n".join(told)


@contextmanager
def started(command: str, env: dict[str, str]) -> Generator[IO[str]]:
    """A server on a free port, whatever ends it; yields what it prints."""
    line = ["bash", "-c", f"exec {command} --port 0 --log-level error"]
    with subprocess.Popen(line, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout
        finally:
            server.kill()


def test_the_readme_has_a_curl_for_every_agent_of_the_demo() -> None:
    shown = "".join(block.text for block in blocks(README, "console"))
    agents = re.findall(r"name: (\w+),? expose: true|type: model_agent\n\s+name: (\w+)", (DEMO / "topology.yaml").read_text())
    names = {first or second for first, second in agents}
    assert len(names) == 5
    assert {name for name in names if f"/agents/{name}" not in shown} == set()


# --- MCP --------------------------------------------------------------------------------------------------------------


async def test_the_block_for_claude_desktop_starts_a_server_that_lists_and_calls_the_agents(tmp_path: Path) -> None:
    env = environment(tmp_path)
    (block,) = blocks(README, "json")
    text = block.text.replace("/absolute/path/to/portico/.venv/bin", str(tmp_path / "bin"))
    server: dict[str, Any] = json.loads(text.replace("/absolute/path/to/portico", str(ROOT)))["mcpServers"]["portico"]
    parameters = StdioServerParameters(command=server["command"], args=server["args"], env=env, cwd=str(tmp_path))
    with anyio.fail_after(60), (tmp_path / "errors").open("w") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("echo", {"text": "hello", "times": 2})
            answer = await client.call_tool("librarian", {"message": "When is the library open on Saturdays?"})
    assert sorted(tools) == ["clerk", "counter", "echo", "fetch_result", "flaky", "librarian", "notebook", "worker"]
    assert result.structured_content == {"echo": "hello hello"}
    assert answer.structured_content is not None
    assert "On Saturdays it closes at noon." in answer.structured_content["reply"]


# --- programs ---------------------------------------------------------------------------------------------------------


PRINTED = (r"hello\n", r"serving on port \d+\n")
"""What the programs of the README print, in order."""


@pytest.mark.parametrize(("block", "expected"), list(zip(blocks(README, "python"), PRINTED, strict=True)), ids=str)
def test_a_program_runs_as_printed(block: Block, expected: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    ended = run("python -W error program.py", cwd=tmp_path, env=environment(tmp_path))
    assert ended.returncode == 0, ended.stdout
    assert re.fullmatch(expected, ended.stdout), ended.stdout


# --- a project of one's own -------------------------------------------------------------------------------------------


def test_the_commands_for_a_project_of_ones_own_work_one_after_the_other(tmp_path: Path) -> None:
    env = environment(tmp_path)
    made, serve, *others = shell_blocks("portico init")
    assert (made, serve) == ("portico init hello && cd hello", "portico serve")
    created = run(made, cwd=tmp_path, env=env)
    assert created.returncode == 0, created.stdout
    with serving(serve, cwd=tmp_path / "hello", env=env) as address:
        assert address.startswith("127.0.0.1:")
    printed = {command: run(command, cwd=tmp_path / "hello", env=env) for command in others}
    assert {command: ended.stdout for command, ended in printed.items() if ended.returncode != 0} == {}
    check, tree, routes, _, ask = (ended.stdout for ended in printed.values())
    assert "is sound" in check
    assert re.search(r"POST +/agents/greeter +greeter", routes)
    assert "/agents/greeter" in json.loads((tmp_path / "hello" / "api.json").read_text())["paths"]
    assert tree == "[sup] root (one_for_one)\n  [agent] greeter (created)\n"
    assert json.loads(ask) == {"text": "Hello, Ada!", "times": 1}


def test_the_test_of_a_new_project_passes(tmp_path: Path) -> None:
    env = environment(tmp_path)
    ended = run("portico init hello && cd hello && python -m unittest", cwd=tmp_path, env=env)
    assert ended.returncode == 0, ended.stdout


# --- what cannot be run here ------------------------------------------------------------------------------------------


def test_the_make_targets_are_there_and_start_the_demo_and_the_tests() -> None:
    targets = [line.split()[1] for line in shell_blocks("make run")]
    assert targets == ["run", "test"]
    for target, begins in (("run", 'portico serve "examples/demo/topology.yaml"'), ("test", "-m pytest")):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
        assert begins in planned


def test_the_container_is_run_with_what_the_dockerfile_expects() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    build, start = shell_blocks("docker build")
    tag = build.split()[-2]
    assert build == f"docker build -t {tag} ."
    assert start.endswith(f" {tag}")
    assert "-v portico-data:/data" in start
    assert "VOLUME /data" in dockerfile
    assert "-p 8080:8080" in start
    assert "EXPOSE 8080" in dockerfile


def test_every_link_into_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README.read_text(encoding="utf-8"))
    assert len(targets) > 3
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_readme_promises_the_python_that_the_package_requires() -> None:
    (least,) = re.findall(r"Python (\d+\.\d+) or newer", README.read_text(encoding="utf-8"))
    (required,) = re.findall(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert least == required
