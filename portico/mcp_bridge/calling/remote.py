"""The HTTP transports to external servers, with failures told apart: was a request sent at all?

The SDK lets one request that cannot be delivered tear down all others of its connection. Here each gets an answer of its own that
says whether the server can have seen it; from that, and not from a text, `connection.py` decides what may be sent again.
"""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio
import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED, INVALID_REQUEST

from portico.mcp_bridge.calling.authorizing import authorizing
from portico.mcp_bridge.calling.discovery_guard import UNAUTHORIZED, GuardedTransport, guard_of
from portico.mcp_bridge.calling.oversize import bounded, longest_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextvars import Context
    from types import TracebackType

    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.exceptions import MCPError
    from mcp.shared.message import SessionMessage

    from portico.mcp_bridge.calling.connection import Life
    from portico.mcp_bridge.calling.discovery_guard import DiscoveryGuard
    from portico.mcp_bridge.calling.login import Login
    from portico.mcp_bridge.config import MCPServerConfig

NOT_SENT: Final = "portico/not-sent"
"""In the data of an error: the server has not begun the call, so it may be sent again."""

SESSION_NOT_FOUND: Final = -32001
"""The code that some servers have for a session that they do not know."""

READ_TIMEOUT: Final = 300.0
"""Seconds without a byte after which a response counts as dead; servers send pings more often."""


def was_not_sent(error: MCPError) -> bool:
    """Whether the server cannot have begun what this error answers."""
    data = error.data
    return isinstance(data, dict) and NOT_SENT in cast("dict[str, Any]", data)


@asynccontextmanager
async def remote(config: MCPServerConfig, life: Life, login: Login | None = None) -> AsyncGenerator[TransportStreams]:
    """The streams of a server at a URL. The life ends when nothing can come from the server any more.

    `login`: somebody is there to log in, where the server asks for that.
    """
    url = config.url or ""
    _shorten_log_of(url)
    most = longest_message(config)
    headers = {"accept-encoding": "identity", **config.headers}  # what is packed has no length that one could judge
    auth, guard = authorizing(config, login), guard_of(config)
    if config.transport == "sse":
        with_end = partial(_client, transport=EndingTransport(life, guard))
        async with sse_client(
            url, headers=headers, timeout=config.patience, sse_read_timeout=READ_TIMEOUT, auth=auth, httpx_client_factory=with_end
        ) as (reads, writes):
            yield WatchedStream(reads, life), writes
        return
    timeout = httpx2.Timeout(config.patience, read=READ_TIMEOUT)
    transport = TellingTransport(most, guard, life)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, transport=transport) as client,
        # Ours ends an event first; the library's limit is left for the stream that belongs to no request.
        streamable_http_client(url, http_client=client, max_sse_event_size=2 * most) as (reads, writes),
    ):
        yield WatchedStream(reads, life), writes


class _Shortened(logging.Filter):
    """Leaves out the credentials in our servers' addresses: the library logs each request with the whole of it."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: set[httpx2.URL] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._shortened(one) for one in record.args)
        return True

    def _shortened(self, said: object) -> object:
        if isinstance(said, httpx2.URL) and said in self.addresses:
            return said.copy_with(userinfo=b"", query=None)
        return said


_SHORTENED: Final = _Shortened()


def _shorten_log_of(url: str) -> None:
    address = httpx2.URL(url)
    if address.userinfo or address.query:
        _SHORTENED.addresses.add(address)
        logging.getLogger("httpx2").addFilter(_SHORTENED)


class WatchedStream:
    """A read stream that tells when it has ended."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], life: Life) -> None:
        self._stream = stream
        self._life = life

    @property
    def last_context(self) -> Context | None:
        """The context variables of whoever sent the last item, where the stream keeps them."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """The next item."""
        return await self._stream.receive()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self._stream.__anext__()
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._life.end("the server closed the connection")
            raise

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)


class EndingTransport(GuardedTransport):
    """Ends the life when a POST fails. Answers come by another stream, so the SDK's client would wait for one for ever."""

    def __init__(self, life: Life, guard: DiscoveryGuard | None = None) -> None:
        super().__init__(guard)
        self._life = life

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        try:
            response = await super().handle_async_request(request)
        except httpx2.TransportError as error:
            if request.method == "POST":
                self._life.end(f"the connection broke ({_text(error)})")
            raise
        if request.method == "POST" and response.is_error:
            self._life.end(f"it answered a message with status {response.status_code}")
        return response


def _client(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
    *,
    transport: httpx2.AsyncBaseTransport,
) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers=headers, timeout=timeout, auth=auth, transport=transport)


class TellingTransport(GuardedTransport):
    """Answers a POST that failed on its way, instead of raising; the answer says whether it was sent.

    Args:
        most: bytes that a message of the server may have.
        guard: judges where an authorisation leads.
        life: is told the id of the session, where the server gives one.
    """

    def __init__(self, most: int, guard: DiscoveryGuard | None = None, life: Life | None = None) -> None:
        super().__init__(guard)
        self._most = most
        self._life = life

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request."""
        try:
            response = await super().handle_async_request(request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            if request.method != "POST":
                raise
            why = request.extensions.get(UNAUTHORIZED)
            return _answer(request, why or f"it cannot be reached ({_text(error)})", sent=False)
        except httpx2.TransportError as error:
            if request.method != "POST":
                raise
            return _answer(request, f"the connection broke ({_text(error)})", sent=True)
        if self._life is not None and (given := response.headers.get("mcp-session-id")):
            self._life.session_id = given
        if request.method != "POST":
            return response
        try:
            response = await bounded(request, response, self._most)
        except httpx2.TransportError as error:
            return _answer(request, f"the connection broke ({_text(error)})", sent=True)
        if "mcp-session-id" in request.headers and await _forgot_the_session(response):
            await response.aclose()
            return _answer(request, "it has forgotten the session", sent=False)
        return response


async def _forgot_the_session(response: httpx2.Response) -> bool:
    """Whether the server does not know a session, and so has begun nothing.

    It answers 404 (so the specification), or 400 with -32000 (so a widespread example) or -32600. The last one also stands for
    requests that are wrong in themselves: there the text tells, for want of anything else.
    """
    if response.status_code == HTTPStatus.NOT_FOUND:
        return True
    if response.status_code != HTTPStatus.BAD_REQUEST:
        return False
    try:
        error: Any = json.loads(await response.aread())["error"]
        code, message = error["code"], str(error["message"]).lower()
    except (ValueError, TypeError, KeyError, httpx2.HTTPError):
        return False
    of_sessions = "session" in message or "initializ" in message
    return code == CONNECTION_CLOSED or (code in (INVALID_REQUEST, SESSION_NOT_FOUND) and of_sessions)


def _answer(request: httpx2.Request, reason: str, *, sent: bool) -> httpx2.Response:
    data = None if sent else {NOT_SENT: True}
    error = {"code": CONNECTION_CLOSED, "message": reason, "data": data}
    return httpx2.Response(HTTPStatus.SERVICE_UNAVAILABLE, json={"jsonrpc": "2.0", "id": None, "error": error}, request=request)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
