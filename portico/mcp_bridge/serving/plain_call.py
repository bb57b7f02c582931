"""PlainCall: a `tools/call` that asks for nothing but its result, read from the bytes of one JSON-RPC message.

Above: `direct.py` (HTTP) and `direct_lines.py` (stdio), which answer those. Whatever is not plain is none of theirs: then `read`
says None, and the SDK's server gets the same bytes. It refuses nothing, and is never more lenient than the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.server.connection import Connection
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp.types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY, ClientCapabilities
from mcp.types.methods import validate_client_request
from mcp.types.version import LATEST_MODERN_VERSION
from pydantic_core import from_json, to_json

from portico.errors import ContractViolation
from portico.mcp_bridge.serving.caller import PRINCIPAL, REQUEST_ID, SCOPES, traceparent_of
from portico.mcp_bridge.serving.input_requests import answerable
from portico.mcp_bridge.serving.tasks import TASKS
from portico.runs.call import Call, permits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool

METHOD: Final = "tools/call"
CANCELLED: Final = b"notifications/cancelled"
MODERN: Final = LATEST_MODERN_VERSION
"""The revision without sessions."""
NO_QUESTIONS: Final[frozenset[str]] = frozenset()
"""For a client that cannot be asked anything."""
KNOWN_CLIENTS: Final = 1024
"""How many clients' words about themselves are remembered."""
MAX_WORDS: Final = 4096
"""Bytes that these words may have, to be remembered."""
MAX_ID: Final = 2**53
"""Numbers beyond it are not the same in every client."""

_MESSAGE: Final = frozenset({"jsonrpc", "id", "method", "params"})
_PARAMS: Final = frozenset({"name", "arguments", "_meta"})
_TRACE: Final = frozenset({"traceparent", "tracestate", "baggage"})
_ENVELOPE: Final = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY})


class PlainCall:
    """What it asks."""

    __slots__ = ("answerable", "arguments", "meta", "name", "request_id")

    def __init__(self, message: Mapping[str, Any], answerable: frozenset[str] = frozenset()) -> None:
        params = message["params"]
        self.request_id: int | str = message["id"]
        self.name: str = params["name"]
        self.arguments: dict[str, Any] = params["arguments"]
        self.meta: Mapping[str, Any] = params.get("_meta") or {}
        self.answerable = answerable
        """Which kinds of questions its client answers meanwhile, as it says itself. Of the old era its session knows that."""

    def connection(self) -> Connection:
        """What a client of the new era says of itself, as the SDK has it."""
        return Connection.from_envelope(MODERN, self.meta.get(CLIENT_INFO_META_KEY), self.meta[CLIENT_CAPABILITIES_META_KEY])


class Clients:
    """What clients of the new era say of themselves with every call: whether it is valid, and what they can be asked."""

    def __init__(self) -> None:
        self._known: dict[bytes, frozenset[str] | None] = {}

    def answerable(self, meta: Mapping[str, Any]) -> frozenset[str] | None:
        """Which kinds of questions a client answers; None where its call is not plain."""
        if not meta[CLIENT_CAPABILITIES_META_KEY] and _is_short(meta.get(CLIENT_INFO_META_KEY)):
            return NO_QUESTIONS
        words = to_json((meta[CLIENT_CAPABILITIES_META_KEY], meta.get(CLIENT_INFO_META_KEY, False)))
        known = self._known
        try:
            return known[words]
        except KeyError:
            if len(words) > MAX_WORDS:
                return None
            if len(known) >= KNOWN_CLIENTS:
                known.clear()
            known[words] = found = _judged(meta)
            return found


def _is_short(info: Any) -> bool:
    """Whether a client says of itself what it must, and nothing else."""
    if type(info) is not dict:
        return False
    said = cast("dict[str, Any]", info)
    return len(said) == 2 and type(said.get("name")) is str and type(said.get("version")) is str  # noqa: PLR2004  # these


def _judged(meta: Mapping[str, Any]) -> frozenset[str] | None:
    said = {key: meta[key] for key in _ENVELOPE if key in meta}
    try:
        validate_client_request(METHOD, MODERN, {"name": "any", "_meta": said})
    except ValueError:
        return None
    return questions_for(ClientCapabilities.model_validate(meta[CLIENT_CAPABILITIES_META_KEY], by_name=False))


def questions_for(declared: ClientCapabilities | None) -> frozenset[str] | None:
    """Which kinds of questions a client with these capabilities answers; None where its calls may become tasks."""
    if declared is not None and declared.extensions is not None and TASKS in declared.extensions:
        return None
    return answerable(declared)


def read_modern(body: bytes, clients: Clients) -> PlainCall | None:
    """The plain call of the new era that these bytes are, or None."""
    message = _message(body)
    if message is None:
        return None
    params = message["params"]
    given = params.get("_meta")
    if type(given) is not dict:
        return None
    meta = cast("dict[str, Any]", given)
    if (
        meta.get(PROTOCOL_VERSION_META_KEY) != MODERN
        or type(meta.get(CLIENT_CAPABILITIES_META_KEY)) is not dict
        or not (meta.keys() <= _ENVELOPE or _is_harmless(meta, _ENVELOPE))
    ):
        return None
    kinds = clients.answerable(meta)
    return PlainCall(message, kinds) if kinds is not None else None


def read_legacy(body: bytes) -> PlainCall | None:
    """The plain call of a session of the old era that these bytes are, or None."""
    message = _message(body)
    if message is None:
        return None
    params = message["params"]
    if "_meta" in params:
        meta = params["_meta"]
        if type(meta) is not dict or not _is_harmless(cast("dict[str, Any]", meta), frozenset()):
            return None
    return PlainCall(message)


class Asked:
    """A plain call, and what it asks of which tool."""

    __slots__ = ("call", "plain", "tool")

    def __init__(self, plain: PlainCall, tool: ServedTool, call: Call) -> None:
        self.plain = plain
        self.tool = tool
        self.call = call

    @property
    def run_id(self) -> str | None:
        """The run of the call; None where it was refused."""
        return self.call.run.run_id if self.call.run is not None else None


def asked(served: Served, plain: PlainCall, kinds: frozenset[str] | None, scope: Mapping[str, Any]) -> Asked | None:
    """What is asked of which tool; None where the SDK's way is to answer it.

    Args:
        served: what there is.
        plain: the call.
        kinds: of questions that its client answers meanwhile; None: it is not to be answered directly.
        scope: of its HTTP request; empty over stdio.
    """
    tool = served.tools.get(plain.name)
    if tool is None or tool.mirrored or kinds is None:
        return None
    endpoint = tool.endpoint
    if endpoint.operation.task or served.dispatcher.intercepts(endpoint) or not permits(scope.get(SCOPES), endpoint.scopes):
        return None
    try:
        payload = tool.payload(plain.arguments)
    except ContractViolation:
        return None
    client = scope.get("client")
    meta = plain.meta
    call = Call(
        endpoint,
        payload,
        timeout=served.options.run_timeout,
        principal=scope.get(PRINCIPAL),
        scopes=scope.get(SCOPES),
        address=client[0] if client else None,
        face="mcp",
        request_id=scope.get(REQUEST_ID),
        traceparent=traceparent_of(meta) if "traceparent" in meta else None,
        answerable=kinds,
    )
    return Asked(plain, tool, call)


def taken_back(body: bytes) -> int | str | None:
    """Which request a client takes back with these bytes, so that "7" and 7 are one; None where they are no such notification."""
    if CANCELLED not in body:
        return None
    try:
        message: Any = from_json(body)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    said = cast("dict[str, Any]", message)
    params = said.get("params")
    if said.get("method") != CANCELLED.decode() or "id" in said or not isinstance(params, dict):
        return None
    request_id = cancelled_request_id_from_params(cast("dict[str, Any]", params))
    return coerce_request_id(request_id) if request_id is not None else None


def _message(body: bytes) -> dict[str, Any] | None:
    """A request of the method with a name, an object of arguments, and nothing unknown; None for anything else."""
    try:
        message: Any = from_json(body, allow_inf_nan=False)
    except ValueError:
        return None
    if type(message) is not dict or message.keys() != _MESSAGE:
        return None
    found = cast("dict[str, Any]", message)
    request_id, given = found["id"], found["params"]
    if type(given) is not dict:
        return None
    params = cast("dict[str, Any]", given)
    if (
        found["jsonrpc"] != "2.0"
        or found["method"] != METHOD
        or not (type(request_id) is str or (type(request_id) is int and -MAX_ID < request_id < MAX_ID))
        or not params.keys() <= _PARAMS
        or type(params.get("name")) is not str
        or type(params.get("arguments")) is not dict
    ):
        return None
    return found


def _is_harmless(meta: Mapping[str, Any], besides: frozenset[str]) -> bool:
    """Whether nothing in a call's `_meta` asks for something: the trace, and what vendors put under names of their own."""
    return all(key in besides or key in _TRACE or ("/" in key and "modelcontextprotocol" not in key) for key in meta)
