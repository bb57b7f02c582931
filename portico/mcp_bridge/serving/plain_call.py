"""PlainCall: a `tools/call` that asks for nothing but its result, read from the bytes of one JSON-RPC message.

Above: `direct.py` (HTTP) and `direct_lines.py` (stdio), which answer those. Whatever is not plain is none of theirs: then `read`
says None, and the SDK's server gets the same bytes. It refuses nothing, and is never more lenient than the SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp.types import CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.methods import validate_client_request
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic_core import from_json, to_json

from portico.errors import ContractViolation
from portico.mcp_bridge.serving.caller import PRINCIPAL, SCOPES, traceparent_of
from portico.runs.call import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_tool import ServedTool

METHOD: Final = "tools/call"
CANCELLED: Final = b"notifications/cancelled"
MODERN: Final = LATEST_MODERN_VERSION
"""The revision without sessions."""
TASKS: Final = "io.modelcontextprotocol/tasks"
"""The extension whose clients are told of a task where a call takes long."""
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

    __slots__ = ("arguments", "name", "request_id", "talks", "traceparent")

    def __init__(
        self, request_id: int | str, name: str, arguments: dict[str, Any], traceparent: str | None, *, talks: bool
    ) -> None:
        self.request_id = request_id
        self.name = name
        self.arguments = arguments
        self.traceparent = traceparent
        self.talks = talks
        """Whether its client can be asked something meanwhile, as it says itself. Of the old era its session knows that."""


class Clients:
    """What clients of the new era say of themselves with every call: whether it is valid, and whether they can be asked."""

    def __init__(self) -> None:
        self._known: dict[bytes, bool | None] = {}

    def talks(self, meta: Mapping[str, Any]) -> bool | None:
        """Whether a client can be asked something while its call is handled; None where its call is not plain."""
        if not meta[CLIENT_CAPABILITIES_META_KEY] and _is_short(meta.get(CLIENT_INFO_META_KEY)):
            return False
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
    return type(info) is dict and len(info) == 2 and type(info.get("name")) is str and type(info.get("version")) is str  # noqa: PLR2004  # these


def _judged(meta: Mapping[str, Any]) -> bool | None:
    said = {key: meta[key] for key in _ENVELOPE if key in meta}
    try:
        validate_client_request(METHOD, MODERN, {"name": "any", "_meta": said})
    except ValueError:
        return None
    return can_be_asked(meta[CLIENT_CAPABILITIES_META_KEY])


def can_be_asked(capabilities: Mapping[str, Any]) -> bool | None:
    """Whether a client with these capabilities can be asked something; None where its calls may become tasks."""
    if TASKS in (capabilities.get("extensions") or ()) or capabilities.get("tasks") is not None:
        return None
    return any(capabilities.get(one) is not None for one in ("elicitation", "sampling", "roots"))


def read_modern(body: bytes, clients: Clients) -> PlainCall | None:
    """The plain call of the new era that these bytes are, or None."""
    message = _message(body)
    if message is None:
        return None
    params = message["params"]
    meta = params.get("_meta")
    if (
        type(meta) is not dict
        or meta.get(PROTOCOL_VERSION_META_KEY) != MODERN
        or type(meta.get(CLIENT_CAPABILITIES_META_KEY)) is not dict
        or not (meta.keys() <= _ENVELOPE or _is_harmless(cast("dict[str, Any]", meta), _ENVELOPE))
    ):
        return None
    talks = clients.talks(cast("dict[str, Any]", meta))
    if talks is None:
        return None
    trace = traceparent_of(cast("dict[str, Any]", meta)) if "traceparent" in meta else None
    return PlainCall(message["id"], params["name"], params["arguments"], trace, talks=talks)


def read_legacy(body: bytes) -> PlainCall | None:
    """The plain call of a session of the old era that these bytes are, or None."""
    message = _message(body)
    if message is None:
        return None
    params = message["params"]
    meta = params.get("_meta")
    trace = None
    if meta is not None or "_meta" in params:
        if type(meta) is not dict or not _is_harmless(cast("dict[str, Any]", meta), frozenset()):
            return None
        trace = traceparent_of(cast("dict[str, Any]", meta))
    return PlainCall(message["id"], params["name"], params["arguments"], trace, talks=False)


def asked(served: Served, plain: PlainCall, talks: bool | None, scope: Mapping[str, Any]) -> tuple[ServedTool, Call] | None:  # noqa: FBT001  # a fact
    """What is asked of which tool; None where the SDK's way is to answer it.

    Args:
        served: what there is.
        plain: the call.
        talks: whether its client can be asked something meanwhile; None: it is not to be answered directly.
        scope: of its HTTP request; empty over stdio.
    """
    tool = served.tools.get(plain.name)
    if tool is None or tool.mirrored or talks is None or (talks and tool.converses):
        return None
    try:
        payload = tool.payload(plain.arguments)
    except ContractViolation:
        return None
    client = scope.get("client")
    return tool, Call(
        tool.endpoint,
        payload,
        timeout=served.options.run_timeout,
        principal=scope.get(PRINCIPAL),
        scopes=scope.get(SCOPES),
        address=client[0] if client else None,
        traceparent=plain.traceparent,
    )


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
    request_id, params = found["id"], found["params"]
    if (
        found["jsonrpc"] != "2.0"
        or found["method"] != METHOD
        or not (type(request_id) is str or (type(request_id) is int and -MAX_ID < request_id < MAX_ID))
        or type(params) is not dict
        or not params.keys() <= _PARAMS
        or type(params.get("name")) is not str
        or type(params.get("arguments")) is not dict
    ):
        return None
    return found


def _is_harmless(meta: Mapping[str, Any], besides: frozenset[str]) -> bool:
    """Whether nothing in a call's `_meta` asks for something: the trace, and what vendors put under names of their own."""
    return all(key in besides or key in _TRACE or ("/" in key and "modelcontextprotocol" not in key) for key in meta)
