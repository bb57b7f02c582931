"""ServingOptions: what can be set about the MCP server. `app/settings.py` has the same under `mcp_…`, and explains each there.

Plain data: whatever serves MCP (HTTP, stdio) is given one of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from portico.mcp_bridge.serving.tool_choice import ToolChoice
from portico.runs.dispatcher import RUN_TIMEOUT

CLIENT_LIMIT = 50.0
"""Seconds that clients wait, less a reserve: many give up after 60."""
TASK_AFTER = 5.0
"""Seconds from which on a call is long."""
BODY_LIMIT = 4 * 1024 * 1024
"""Bytes that a request may have."""
PAGE_SIZE = 1000
"""How much of a list one answer may have."""


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """The settings of one MCP server."""

    name: str = "portico"
    """What it calls itself to clients."""
    run_timeout: float = RUN_TIMEOUT
    """Seconds that a call may take."""
    client_limit: float = CLIENT_LIMIT
    """Seconds after which a client without tasks is told that its call is still running."""
    task_after: float = TASK_AFTER
    """Seconds after which the call of a client with tasks becomes one, unless its operation says otherwise."""
    body_limit: int = BODY_LIMIT
    """Bytes that a request may have."""
    choice: ToolChoice = field(default_factory=ToolChoice)
    """Which tools are served, and under which names."""
    page_size: int = PAGE_SIZE
    """How much of a list one answer may have."""
    input_timeout: float = 600.0
    """Seconds that a call waits for what its client is asked (elicitation, sampling, roots)."""
    direct: bool = True
    """Whether plain calls are answered in front of the SDK's application."""
    sessions_per_caller: int = 100
    """Sessions of the old era that one caller may have at once."""
    max_sessions: int = 10_000
    """Sessions of the old era of all callers."""
    session_idle_timeout: float = 300.0
    """Seconds after which a session of the old era that nobody uses ends."""
