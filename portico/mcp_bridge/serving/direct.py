"""Direct: answers plain `tools/call` requests over HTTP in front of the SDK, both protocol eras.

Above: `http.py`, which asks it first. What it does not take, whole and unread as far as anybody can tell, goes to the SDK's
application: anything that is not a plain call of a tool, by a client whose every header and word is in order. What it has taken
it answers to the end, success or error, with the same functions as the SDK's way; a call never reaches an agent twice.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from mcp.server.streamable_http import REQUEST_CANCELLED, check_accept_headers
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.types import CONNECTION_CLOSED
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.requests import Request

from portico.mcp_bridge.serving.back_channel import BackChannel
from portico.mcp_bridge.serving.caller import PRINCIPAL
from portico.mcp_bridge.serving.direct_call import DirectCall
from portico.mcp_bridge.serving.exchanges import told, told_error
from portico.mcp_bridge.serving.going_on import rest_of
from portico.mcp_bridge.serving.lingering import Lingering
from portico.mcp_bridge.serving.plain_call import METHOD, MODERN, Clients, asked, read_legacy, read_modern, taken_back
from portico.mcp_bridge.serving.printing import Printer
from portico.mcp_bridge.serving.serving_meter import error_type
from portico.mcp_bridge.serving.sessions import SESSION_HEADER
from portico.runs.call_observer import EXCHANGE
from portico.runs.dispatcher import HandedOver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp.server.lowlevel import Server
    from starlette.types import Message, Receive, Scope, Send

    from portico.mcp_bridge.serving.plain_call import Asked, PlainCall
    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.sessions import Session, Sessions
    from portico.runs.call_observer import Exchange

_VERSION: Final = MODERN.encode("ascii")
_METHOD: Final = METHOD.encode("ascii")
_HANDSHAKE_VERSIONS: Final = frozenset(version.encode("ascii") for version in HANDSHAKE_PROTOCOL_VERSIONS)
_UNUSUAL: Final = frozenset({b"origin", b"content-encoding", b"transfer-encoding", b"last-event-id"})
"""Headers that the direct path leaves to the SDK, whatever they say."""
_JSON: Final = frozenset({b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"})
_LONGEST_LENGTH: Final = 10
"""Digits of a Content-Length that is looked at."""


class Direct:
    """The direct path of one endpoint.

    Args:
        served: what is served.
        server: whose answers its own must equal.
        sessions: those of the old era.
        hosts: the values of `Host` that are served; None where a guard in front has decided.
    """

    def __init__(self, served: Served, server: Server[Any], sessions: Sessions, hosts: frozenset[bytes] | None) -> None:
        self._served = served
        self._sessions = sessions
        self._hosts = hosts
        self._printer = Printer(server)
        self._clients = Clients()
        self._lingering = Lingering(served.dispatcher)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> Receive | None:
        """Answer a POST. Where it is none for this path, nothing was sent: returns where the SDK reads the request from."""
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = dict(raw)
        if len(headers) != len(raw) or not self._is_in_order(headers):
            return receive
        session: Session | None = None
        if headers.get(b"mcp-protocol-version") != _VERSION:
            session = self._session(scope, headers)
            if session is None:
                return receive
        elif headers.get(b"mcp-method") != _METHOD or SESSION_HEADER in headers:
            return receive
        message: Message | None = await receive()
        assert message is not None  # noqa: S101  # for the type checker
        if message["type"] != "http.request" or message.get("more_body", False):
            message, receive = await _whole(message, receive, self._served.options.body_limit)
            if message is None:
                return receive
        plain = self._read(message.get("body", b""), headers, session)
        found = None
        if plain is not None:
            found = asked(self._served, plain, plain.answerable if session is None else session.answerable, scope)
        if found is None:
            return _replaying((message,), receive)
        if session is None:
            await self._answer(DirectCall(found.call, self._lingering, receive, send, MODERN), found, scope, None)
        else:
            await self._answer_in(session, found, scope, receive, send)
        return None

    def _session(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Session | None:
        """The session of the old era that a request names, where it is its owner's."""
        version, session_id = headers.get(b"mcp-protocol-version"), headers.get(SESSION_HEADER)
        if session_id is None or not (version is None or version in _HANDSHAKE_VERSIONS):
            return None
        return self._sessions.find(session_id.decode("latin-1"), scope.get(PRINCIPAL))

    def _read(self, body: bytes, headers: Mapping[bytes, bytes], session: Session | None) -> PlainCall | None:
        if session is None:
            plain = read_modern(body, self._clients)
            # Names of tools are ASCII: no header can say one in any other way.
            return plain if plain is not None and headers.get(b"mcp-name") == plain.name.encode("utf-8", "replace") else None
        plain = read_legacy(body)
        if plain is None and session.in_flight() and not session.questions.hear(body):
            _take_back(session, body)
        return plain

    def _is_in_order(self, headers: Mapping[bytes, bytes]) -> bool:
        length = headers.get(b"content-length", b"")
        return (
            headers.get(b"content-type") in _JSON
            and length.isdigit()
            and len(length) < _LONGEST_LENGTH
            and int(length) <= self._served.options.body_limit
            and _accepts_both(headers.get(b"accept", b""))
            and _UNUSUAL.isdisjoint(headers)
            and (self._hosts is None or headers.get(b"host") in self._hosts)
        )

    async def _answer_in(self, session: Session, asked: Asked, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call of the old era, which holds its session open and can be taken back in it."""
        connection = session.connection
        assert connection is not None  # noqa: S101  # its client has initialised it
        own_headers = ((SESSION_HEADER, session.id.encode()),)
        direct = DirectCall(asked.call, self._lingering, receive, send, connection.protocol_version, own_headers)
        key = coerce_request_id(asked.plain.request_id)
        session.calls[key] = direct
        self._sessions.begin(session)
        try:
            await self._answer(direct, asked, scope, session)
        finally:
            if session.calls.get(key) is direct:  # and not a later one, whose client uses an id twice
                del session.calls[key]
            self._sessions.end(session)

    async def _answer(self, direct: DirectCall, asked: Asked, scope: Scope, session: Session | None) -> None:
        """Make the call and send its end, whatever that is."""
        printer, version, status = self._printer, direct.version, HTTPStatus.OK.value
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None:
            told(exchange, asked.plain, version, session.id if session is not None else None)
        began, failure = perf_counter(), None
        try:
            try:
                body = printer.reply(asked, version, await self._served.dispatcher.ask(asked.call))
            except HandedOver:
                rest = await self._rest(direct, asked, scope, session)
                body = printer.result(asked.plain.request_id, version, rest)
        except asyncio.CancelledError as cancelled:
            failure = cancelled
            if not direct.was_taken_back():
                raise
            if version == MODERN:
                return  # its client has left
            reason = (CONNECTION_CLOSED, "Connection closed") if direct.closed else (REQUEST_CANCELLED, "Request cancelled")
            body = printer.error(asked.plain.request_id, *reason)
        except Exception as error:  # noqa: BLE001  # whatever it is, the client is told its MCP form
            told_error(exchange, error)
            failure = error
            body = printer.failure(asked, version, error)
            if version == MODERN and isinstance(error, MCPError):
                status = ERROR_CODE_HTTP_STATUS.get(error.error.code, status)
        finally:
            direct.end()
            if (meter := self._served.meter) is not None:
                tool, traceparent = asked.plain.name, asked.call.traceparent
                meter.answered(METHOD, tool, error_type(failure), perf_counter() - began, traceparent)
        await direct.answer(body, status)

    async def _rest(self, direct: DirectCall, asked: Asked, scope: Scope, session: Session | None) -> Any:
        """What the SDK's way makes of a call that takes long. Raises `MCPError`."""
        plain = asked.plain
        if session is None:
            connection = plain.connection()
        else:
            connection = session.connection
            assert connection is not None  # noqa: S101  # its client has initialised it
        channel = BackChannel(plain.request_id, session.questions if session is not None else None, direct.tell)
        return await rest_of(self._served, asked, connection, channel, scope)


def _take_back(session: Session, body: bytes) -> None:
    """Cancel the call that a client takes back; its notification goes on to the SDK, whose calls it may mean."""
    key = taken_back(body)
    call = session.calls.get(key) if key is not None else None
    if call is not None:
        call.cancel()


@lru_cache(maxsize=256)
def _accepts_both(accept: bytes) -> bool:
    """Whether a client takes JSON and event streams: the SDK asks for both, whatever the answer will be."""
    return check_accept_headers(Request({"type": "http", "headers": [(b"accept", accept)]})) == (True, True)


async def _whole(first: Message, receive: Receive, limit: int) -> tuple[Message | None, Receive]:
    """A body of several parts as one message; None where it is not one for the direct path, and where to read it again."""
    parts, size = [first], 0
    while True:
        last = parts[-1]
        size += len(last.get("body", b""))
        if last["type"] != "http.request" or size > limit:
            return None, _replaying(parts, receive)
        if not last.get("more_body", False):
            return {"type": "http.request", "body": b"".join(part.get("body", b"") for part in parts), "more_body": False}, receive
        parts.append(await receive())


def _replaying(messages: Sequence[Message], receive: Receive) -> Receive:
    """Receives what was received already, then the rest."""
    left = list(reversed(messages))

    async def replayed() -> Message:
        return left.pop() if left else await receive()

    return replayed
