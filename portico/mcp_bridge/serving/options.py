"""ServingOptions: what can be set about the MCP server. `app/settings.py` has the same under `mcp_…`, and explains each there.

Plain data: whatever serves MCP (HTTP, stdio) is given one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from portico.runs.dispatcher import RUN_TIMEOUT

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes that a request may have."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """The settings of one MCP server."""

    name: str = "portico"
    """What it calls itself to clients."""
    run_timeout: float = RUN_TIMEOUT
    """Seconds that a call may take."""
    body_limit: int = BODY_LIMIT
    """Bytes that a request may have."""
