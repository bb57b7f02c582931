"""The Inspector of MCP, by its command line: it lists and calls the tools of the demo, over HTTP in each era and over stdio."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import node
from tests.conformance.node import ROOT
from tests.conformance.suite import gateway

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]

DEMO = ROOT / "examples" / "demo" / "topology.yaml"


@pytest.fixture(scope="module")
def demo() -> Generator[str]:
    node.required()
    with gateway(topology=DEMO) as url:
        yield url


def inspect(*arguments: str) -> Any:
    """What the Inspector prints; fails the test where it says that something is wrong."""
    done = node.run([*node.command("@modelcontextprotocol/inspector", "mcp-inspector"), "--cli", *arguments], timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("era", ["modern", "legacy", "auto"])
def test_it_lists_and_calls_tools_over_http(demo: str, era: str) -> None:
    reach = [demo, "--transport", "http", "--protocol-era", era]

    listed = inspect(*reach, "--method", "tools/list")
    called = inspect(*reach, "--method", "tools/call", "--tool-name", "echo", "--tool-args-json", '{"text": "hello"}')

    assert "echo" in {tool["name"] for tool in listed["tools"]}
    assert called["structuredContent"] == {"echo": "hello"}


def test_it_finds_every_schema_portable(demo: str) -> None:
    inspect(demo, "--transport", "http", "--protocol-era", "modern", "--method", "tools/list", "--strict")


def test_it_lists_and_calls_tools_over_stdio() -> None:
    node.required()
    server = ["--", sys.executable, "-m", "portico", "mcp", str(DEMO)]

    listed = inspect("--method", "tools/list", *server)
    called = inspect("--method", "tools/call", "--tool-name", "echo", "--tool-args-json", '{"text": "hello"}', *server)

    assert "echo" in {tool["name"] for tool in listed["tools"]}
    assert called["structuredContent"] == {"echo": "hello"}
