"""Names of spans, events, attributes and metrics: they stand here once, so that dashboards can rely on them.

What OpenTelemetry names itself (`error.type`, `http.route`, `gen_ai.…`, `mcp.…`) is written as it names it, of one version of its
conventions; the rest begins with `portico.`.
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


def chat_span(model: str) -> str:
    """One call of a model."""
    return f"{CHAT} {model}" if model else CHAT


def tool_span(tool: str) -> str:
    """One call of a tool of this program."""
    return f"{EXECUTE_TOOL} {tool}"


def mcp_span(method: str, target: str | None) -> str:
    """One request of MCP, on either side of it."""
    return f"{method} {target}" if target else method


def start_span(agent: str) -> str:
    """One life of a process, from its making to its first message."""
    return f"start {agent}"


def stop_span(agent: str) -> str:
    """The end of a process, from the wish for it to its last word."""
    return f"stop {agent}"


def callback_span(method: str) -> str:
    """One attempt to tell somebody of a run's end: by the conventions for HTTP clients, the method and nothing of the address."""
    return method


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
STATUS: Final = "portico.status"
"""Where a process is after its start or its stop."""
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
HTTP_RESEND: Final = "http.request.resend_count"
TRANSPORT: Final = "network.transport"

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
CHAT: Final = "chat"
EXECUTE_TOOL: Final = "execute_tool"
INVOKE_AGENT: Final = "invoke_agent"
"""Values of `gen_ai.operation.name`."""
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_AGENT: Final = "gen_ai.agent.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
GEN_AI_TOKENS_IN: Final = "gen_ai.usage.input_tokens"
GEN_AI_TOKENS_OUT: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOOL: Final = "gen_ai.tool.name"
GEN_AI_TOOL_TYPE: Final = "gen_ai.tool.type"
FUNCTION: Final = "function"
EXTENSION: Final = "extension"
"""Values of `gen_ai.tool.type`: a tool of this program, and one of an external server."""
GEN_AI_TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
GEN_AI_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_PROMPT: Final = "gen_ai.prompt.name"
GEN_AI_INPUT: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT: Final = "gen_ai.output.messages"
GEN_AI_INSTRUCTIONS: Final = "gen_ai.system_instructions"
GEN_AI_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
GEN_AI_RESULT: Final = "gen_ai.tool.call.result"
"""The last five are content: never without `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`."""

MCP_METHOD: Final = "mcp.method.name"
MCP_VERSION: Final = "mcp.protocol.version"
MCP_SESSION: Final = "mcp.session.id"
MCP_RESOURCE: Final = "mcp.resource.uri"
JSONRPC_ID: Final = "jsonrpc.request.id"
RPC_STATUS: Final = "rpc.response.status_code"
"""The code of a JSON-RPC error."""
TOOL_ERROR: Final = "tool_error"
"""`error.type` of a result of MCP that is an error."""
MCP_SERVER: Final = "portico.mcp.server"
"""The external server, as the settings name it."""
TOOLS_CALL: Final = "tools/call"
"""`mcp.method.name` of what agents call."""


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

# --- log records: attributes ------------------------------------------------------------------------------------------

REQUEST_ID: Final = "portico.request_id"
"""The request that a line belongs to."""
USER_ID: Final = "user.id"
"""The principal for whom something is done."""
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_TRACE: Final = "exception.stacktrace"
CODE_STACKTRACE: Final = "code.stacktrace"

# --- log records ------------------------------------------------------------------------------------------------------

AUDIT_EVENT: Final = "portico.audit"
"""The name of the event that a log record is which is an entry of the audit trail."""
AUDIT_ATTRIBUTES: Final = "portico.audit."
"""What the attributes of such a record begin with: the names of the entry's fields follow."""
AUDIT_DETAILS: Final = "portico.audit.details."
"""The same of the entry's details."""

# --- metrics: the table of them is in `instruments.py` ---------------------------------------------------------------

METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
"""Methods that are shown; any other is `_OTHER`."""

HANDSHAKES: Final = {"websocket.accept": 101, "websocket.close": 403, "websocket.http.response.start": 403}
"""The messages of ASGI that answer the handshake of a WebSocket, and the status that each of them means where it says none."""

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
