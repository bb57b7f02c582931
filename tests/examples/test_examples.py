"""Each example is a program: run as its own process, from another directory, it prints what it should and ends by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = 50
"""Seconds that an example may take on a busy machine."""


def environment() -> dict[str, str]:
    """No settings of the developer's, and this checkout's `portico`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "OTEL_", "OPENAI_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(example: str, *arguments: str, cwd: Path, **extra: str) -> str:
    """What the program prints. It ends with exit code 0 and complains about nothing."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{example}.py"), *arguments]
    ended = subprocess.run(
        command, cwd=cwd, env={**environment(), **extra}, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout


def test_every_example_is_tested_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    untested = [path.stem for path in EXAMPLES.glob("*.py") if f'("{path.stem}"' not in here]
    assert untested == []


def test_hello_agent_shows_its_tree_and_answers(tmp_path: Path) -> None:
    assert run("hello_agent", cwd=tmp_path) == "[sup] root (one_for_one)\n  [agent] echo (running)\nhello\n"


def test_supervised_agent_answers_every_ask_though_it_crashes(tmp_path: Path) -> None:
    lines = run("supervised_agent", cwd=tmp_path).splitlines()
    attempts = [re.fullmatch(rf"{number} doubled is {2 * number} \(attempt (\d+)\)", lines[number - 1]) for number in range(1, 6)]
    crashes = sum(int(found[1]) - 1 for found in attempts if found is not None)
    assert None not in attempts
    assert crashes > 0
    assert lines[5:] == [f"answered: 5, crashed: {crashes} times"]


def test_research_pipeline_puts_together_what_three_searchers_found(tmp_path: Path) -> None:
    printed = run("research_pipeline", cwd=tmp_path)
    tree, report = printed.split("What we know about lighthouses:\n")
    assert tree.splitlines()[:2] == ["[sup] root (rest_for_one)", "  [sup] searchers (one_for_one)"]
    assert [line.rpartition("(")[2] for line in report.splitlines()] == ["history)", "engineering)", "sailors)"]


def test_research_assistant_lets_its_model_call_a_tool(tmp_path: Path) -> None:
    printed = run("research_assistant", cwd=tmp_path)
    assert printed == "tool: height_of {'building': 'Eiffel tower'} ok\nEiffel tower is 330 metres high.\n"


def test_research_assistant_tells_what_a_tool_refused(tmp_path: Path) -> None:
    printed = run("research_assistant", "How high is the house next door?", cwd=tmp_path)
    assert "There is no building 'house next door'. There are: eiffel tower, big ben, pharos." in printed


def test_llm_assistant_needs_no_key(tmp_path: Path) -> None:
    printed = run("llm_assistant", cwd=tmp_path)
    assert printed == "scripted: A supervisor starts processes, and starts them again when they crash.\n"


def test_http_gateway_answers_over_http_and_refuses_what_breaks_the_contract(tmp_path: Path) -> None:
    bought, refused = run("http_gateway", cwd=tmp_path).splitlines()
    assert bought == "200 {'order': '3 tea', 'left': 97}"
    assert refused == "422 The request to 'buy' is not valid at /count: Input should be less than or equal to 100"


def test_http_gateway_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "http_gateway.py"), "0", "--serve"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            announced = program.stdout.readline()
            assert re.match(r"serving http://127\.0\.0\.1:\d+, docs at ", announced), announced
            program.send_signal(signal.SIGINT)
            assert program.wait(PATIENCE) == 0
        finally:
            program.kill()


def test_mcp_agent_finds_its_answer_with_a_tool_of_a_real_server(tmp_path: Path) -> None:
    lines = run("mcp_agent", "What is a supervisor?", cwd=tmp_path).splitlines()
    assert lines[:3] == [f"mcp://library/{tool}" for tool in ("list_documents", "read_document", "search_documents")]
    assert lines[3].endswith(".md)")


def test_embed_fastapi_serves_the_host_and_the_gateway(tmp_path: Path) -> None:
    host, greeting, unknown = run("embed_fastapi", cwd=tmp_path).splitlines()
    assert host == "{'agents': '/ai/agents', 'docs': '/ai/docs', 'mcp': '/ai/mcp'}"
    assert (greeting, unknown) == ("Hello, Ada!", "There is no agent 'nobody'.")


@pytest.mark.parametrize("example", ["http_gateway", "llm_assistant"])
def test_an_example_with_arguments_explains_them(example: str, tmp_path: Path) -> None:
    assert run(example, "--help", cwd=tmp_path).startswith("usage:")
