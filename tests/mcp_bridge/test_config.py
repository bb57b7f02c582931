"""Configurations of external servers: what cannot be is said before anything starts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from portico.errors import ConfigurationError, DuplicateName
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.mcp_bridge.config import MCPServerConfig


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"name": "a b", "command": "x"}, "cannot be named 'a b'"),
        ({"name": "a"}, "has no 'command'"),
        ({"name": "a", "command": "x", "transport": "studio"}, "Did you mean 'stdio'"),
        ({"name": "a", "command": "x", "url": "http://h/mcp"}, "Did you mean 'streamable_http'"),
        ({"name": "a", "transport": "sse"}, "has the url None"),
        ({"name": "a", "transport": "streamable_http", "url": "ftp://h"}, "begins with http"),
        ({"name": "a", "transport": "sse", "url": "http://h", "env": {"A": "b"}}, "only a stdio server has"),
        ({"name": "a", "command": "x", "timeout": 0}, "must be above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_the_servers_name(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        MCPServerConfig(**settings)


@pytest.mark.parametrize("command", ["python", "python3"])
def test_python_means_the_interpreter_that_runs_the_gateway(command: str) -> None:
    assert MCPServerConfig("a", command=command, args=["x.py"]).argv == [sys.executable, "x.py"]
    assert MCPServerConfig("a", command="/usr/bin/python3").argv == ["/usr/bin/python3"]


def test_no_secret_is_shown_by_the_configuration() -> None:
    assert "hidden" not in repr(MCPServerConfig("a", command="x", env={"TOKEN": "hidden"}))


def test_two_servers_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateName):
        build_upstreams([MCPServerConfig("a", command="x"), MCPServerConfig("a", command="y")])
