"""The reference server of MCP, over stdio and over HTTP: an agent calls every tool that it has."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(300)]

PACKAGE = "@modelcontextprotocol/server-everything"
HELLO = "data:text/plain;base64,aGVsbG8="
