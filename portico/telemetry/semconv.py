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

# --- metrics: the table of them is in `instruments.py` ---------------------------------------------------------------

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""Methods that are shown; any other is `_OTHER`."""

HTTP_SERVER_REQUEST_DURATION: Final = "http.server.request.duration"
MCP_SERVER_OPERATION_DURATION: Final = "mcp.server.operation.duration"
MCP_CLIENT_OPERATION_DURATION: Final = "mcp.client.operation.duration"
GEN_AI_CLIENT_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
GEN_AI_CLIENT_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  # of models

CALL_DURATION: Final = "portico.call.duration"
CALLS_ADMITTED: Final = "portico.calls.admitted"
CALLS_REJECTED: Final = "portico.calls.rejected"
CALLS_IN_FLIGHT: Final = "portico.calls.in_flight"
HANDLING_DURATION: Final = "portico.handling.duration"
RUNS: Final = "portico.runs"
RUNS_ENDED: Final = "portico.runs.ended"
MAILBOX_MESSAGES: Final = "portico.mailbox.messages"
MAILBOX_LIMIT: Final = "portico.mailbox.limit.messages"
MAILBOX_EXPIRED: Final = "portico.mailbox.expired.messages"
AGENT_UP: Final = "portico.agent.up"
AGENT_RESTARTS: Final = "portico.agent.restarts"
AGENT_CRASHES: Final = "portico.agent.crashes"
AGENT_PROCESSES: Final = "portico.agent.processes"
MCP_UPSTREAM_CONNECTED: Final = "portico.mcp.upstream.connected"
MCP_UPSTREAM_TOOLS: Final = "portico.mcp.upstream.tools"
MCP_UPSTREAM_RECONNECTS: Final = "portico.mcp.upstream.reconnects"
MCP_UPSTREAM_IN_FLIGHT: Final = "portico.mcp.upstream.calls.in_flight"
MCP_UPSTREAM_WAITING: Final = "portico.mcp.upstream.calls.waiting"
MODEL_COST: Final = "portico.model.cost.usd"
MODEL_UNPRICED: Final = "portico.model.calls.unpriced"
MODEL_UNCOUNTED: Final = "portico.model.calls.uncounted"
STREAMS_OPEN: Final = "portico.streams.open"
SOCKETS_OPEN: Final = "portico.sockets.open"
DEAD_LETTERS: Final = "portico.dead_letters"
STORE_UP: Final = "portico.store.up"
READY: Final = "portico.ready"
DRAINING: Final = "portico.draining"
JOURNAL_WAITING: Final = "portico.journal.waiting"
JOURNAL_OLDEST: Final = "portico.journal.oldest.age"
JOURNAL_WAIT: Final = "portico.journal.wait.duration"
JOURNAL_COMMIT: Final = "portico.journal.commit.duration"
LOOP_LAG: Final = "portico.event_loop.lag"
LOOP_STALLS: Final = "portico.event_loop.stalls"
LOOP_STALLED: Final = "portico.event_loop.stalled.time"
SINK_FAILURES: Final = "portico.sink.failures"
SPANS_LOST: Final = "portico.telemetry.spans.lost"
EXPORTS: Final = "portico.telemetry.exports"
BUILD: Final = "portico.build.info"

METHOD_LABEL: Final = "mcp.method.name"
TOOL_LABEL: Final = "gen_ai.tool.name"
MODEL_OPERATION_LABEL: Final = "gen_ai.operation.name"
PROVIDER_LABEL: Final = "gen_ai.provider.name"
MODEL_LABEL: Final = "gen_ai.request.model"
TOKEN_LABEL: Final = "gen_ai.token.type"  # noqa: S105  # of models
