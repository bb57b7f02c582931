"""Names of spans, events, attributes and metrics: they stand here once, so that dashboards can rely on them.

What OpenTelemetry names itself (`error.type`, `http.route`) is written as it names it; the rest begins with `portico.`.
"""

from __future__ import annotations

import traceback
from typing import Final

SCOPE: Final = "portico"
"""The instrumentation scope of our spans."""
VERSION: Final = "1.44.0"
"""The version of OpenTelemetry's semantic conventions that these names are of."""
SCHEMA_URL: Final = f"https://opentelemetry.io/schemas/{VERSION}"
"""The same, as scopes and resources say it."""

# --- spans ------------------------------------------------------------------------------------------------------------


def dispatch_span(agent: str, operation: str) -> str:
    """A call on its way through the door, until its reply (an ask) or its acceptance (a send)."""
    return f"dispatch {agent}.{operation}"


def handle_span(agent: str, operation: str) -> str:
    """One handling of one message by one incarnation."""
    return f"handle {agent}.{operation}"


# --- attributes -------------------------------------------------------------------------------------------------------

AGENT: Final = "portico.agent"
"""The agent's name."""
OPERATION: Final = "portico.operation"
"""The operation's name."""
ONE_WAY: Final = "portico.one_way"
"""Whether nobody waits for the reply."""
RUN_ID: Final = "portico.run_id"
"""The run that a handling belongs to."""
SENDER: Final = "portico.sender"
"""The process that sent the message; absent for the outside."""
ATTEMPT: Final = "portico.attempt"
"""How often the message was delivered before."""
INCARNATION: Final = "portico.incarnation"
"""The number of the life that handles it."""
REASON: Final = "portico.reason"
"""Why a message became a dead letter."""
ERROR_TYPE: Final = "error.type"
"""A problem's slug, or the class of an unexpected exception."""
HTTP_ROUTE: Final = "http.route"
"""The template of the path."""
HTTP_METHOD: Final = "http.request.method"
HTTP_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
CLIENT_ADDRESS: Final = "client.address"
PROTOCOL_VERSION: Final = "network.protocol.version"
USER_AGENT: Final = "user_agent.original"


def exception(error: BaseException, *, escaped: bool) -> dict[str, str]:
    """The attributes of the event `exception`."""
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {
        "exception.type": module + kind.__qualname__,
        "exception.message": str(error),
        "exception.stacktrace": "".join(traceback.format_exception(error)),
        "exception.escaped": str(escaped),
    }


# --- events on spans --------------------------------------------------------------------------------------------------

CRASHED: Final = "portico.agent.crashed"
"""The handler crashed on this message: on its own span, and on the span of who waits for it."""
DEAD_LETTER: Final = "portico.message.dead_letter"
"""The message will not be delivered again: on the span of who waits for it."""

# --- metrics (Prometheus: base units, the unit last; a counter's `_total` is added where it is written) ---------------

CALL_DURATION: Final = "portico_call_duration_seconds"
CALLS_ADMITTED: Final = "portico_calls_admitted"
CALLS_REJECTED: Final = "portico_calls_rejected"
CALLS_IN_FLIGHT: Final = "portico_calls_in_flight"
RUNS: Final = "portico_runs"
MAILBOX_MESSAGES: Final = "portico_mailbox_messages"
MAILBOX_LIMIT: Final = "portico_mailbox_limit_messages"
MAILBOX_EXPIRED: Final = "portico_mailbox_expired_messages"
AGENT_UP: Final = "portico_agent_up"
AGENT_RESTARTS: Final = "portico_agent_restarts"
AGENT_PROCESSES: Final = "portico_agent_processes"
MCP_UPSTREAM_CONNECTED: Final = "portico_mcp_upstream_connected"
MCP_UPSTREAM_TOOLS: Final = "portico_mcp_upstream_tools"
MCP_UPSTREAM_RECONNECTS: Final = "portico_mcp_upstream_reconnects"
MCP_UPSTREAM_IN_FLIGHT: Final = "portico_mcp_upstream_calls_in_flight"
MCP_UPSTREAM_WAITING: Final = "portico_mcp_upstream_calls_waiting"
MCP_UPSTREAM_CALL_DURATION: Final = "portico_mcp_upstream_call_duration_seconds"
STREAMS_OPEN: Final = "portico_streams_open"
DEAD_LETTERS: Final = "portico_dead_letters"
STORE_UP: Final = "portico_store_up"
DRAINING: Final = "portico_draining"
LOOP_LAG: Final = "portico_event_loop_lag_seconds"
BUILD: Final = "portico_build"
