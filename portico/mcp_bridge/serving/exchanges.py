"""Exchanges: tells observers about each request of MCP that the SDK's server answers, in place of the SDK's own spans.

Those would be server spans beside the gateway's own. Above: `server.py`, which puts this around all handlers. Below: the port
`Exchange`: over HTTP it lies in the request's scope, over stdio an observer of the dispatcher makes it. The direct paths tell by
`told` what they answer.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolResult
from pydantic import ValidationError

from portico.mcp_bridge.serving.caller import scope_of, traceparent_of
from portico.runs.call_observer import EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

    from portico.mcp_bridge.serving.plain_call import PlainCall
    from portico.runs.call_observer import Exchange
    from portico.runs.dispatcher import Dispatcher

_TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
}
"""By method: the word for its target, and where its parameters name it."""
_LONGEST: Final = 1024
"""Characters of a target: it is a client's text."""


class Exchanges:
    """A middleware of the SDK's server. `dispatcher`: whose observers are told."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Around one message."""
        scope = scope_of(ctx)
        given: Exchange | None = scope.get(EXCHANGE)
        if given is None and (scope or not self._dispatcher.observes_exchanges):
            return await call_next(ctx)
        words = _words(ctx)
        if given is None:
            with self._dispatcher.exchanging(**words, transport="pipe") as exchange:
                return await _told(exchange, ctx, call_next)
        session = next((value for name, value in scope["headers"] if name == b"mcp-session-id"), None)
        given.tell(**words, **({"session_id": session.decode("latin-1")} if session is not None else {}))
        with given.within():
            return await _told(given, ctx, call_next)


def told(exchange: Exchange, plain: PlainCall, version: str, session_id: str | None = None) -> None:
    """What the direct path has read of a call."""
    more = {"session_id": session_id} if session_id is not None else {}
    exchange.tell(**_plain_words(plain, version), **more)


def told_error(exchange: Exchange | None, error: BaseException) -> None:
    """How it has failed."""
    if exchange is None:
        return
    if isinstance(error, MCPError):
        exchange.tell(error_code=error.error.code)
    else:
        exchange.tell(failed=True)


def exchange_around(dispatcher: Dispatcher, plain: PlainCall, version: str) -> AbstractContextManager[Exchange | None]:
    """Around a call over stdio that is answered directly."""
    if not dispatcher.observes_exchanges:
        return nullcontext()
    return dispatcher.exchanging(**_plain_words(plain, version), transport="pipe")


def _plain_words(plain: PlainCall, version: str) -> dict[str, Any]:
    known = {"method": "tools/call", "tool": plain.name, "protocol_version": version, "request_id": plain.request_id}
    return {**known, **_trace(plain.meta)}


def _trace(meta: Mapping[str, Any] | None) -> dict[str, str]:
    """The trace that a message names itself."""
    traceparent, state = traceparent_of(meta), (meta or {}).get("tracestate")
    if traceparent is None:
        return {}
    return {"traceparent": traceparent, **({"tracestate": state} if isinstance(state, str) else {})}


async def _told(exchange: Exchange, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    try:
        result = await call_next(ctx)
    except MCPError as error:
        exchange.tell(error_code=error.error.code)
        raise
    except ValidationError:
        exchange.tell(error_code=INVALID_PARAMS)
        raise
    except Exception:
        exchange.tell(failed=True)
        raise
    if isinstance(result, CallToolResult) and result.is_error:
        exchange.tell(failed=True)
    return result


def _words(ctx: ServerRequestContext[Any, Any]) -> dict[str, Any]:
    meta: Any = ctx.meta
    words: dict[str, Any] = {"method": ctx.method, "protocol_version": ctx.protocol_version, **_trace(meta)}
    if ctx.request_id is not None:
        words["request_id"] = ctx.request_id
    word, member = _TARGETS.get(ctx.method, ("", ""))
    target: Any = ctx.params.get(member) if word and ctx.params else None
    if isinstance(target, str):
        words[word] = target[:_LONGEST]
    return words
