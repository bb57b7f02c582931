"""Link: one MCP server over HTTP, as requests with bodies and answers of messages. It knows no eras and no sessions.

Above: the relay. Below: httpx2. A server that is not there, or goes away, is a sentence (`Unanswered`); one that was reached before
is waited for, since gateways are restarted.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from http.client import responses
from typing import TYPE_CHECKING, Any, Final, Self, cast

import anyio
import httpx2
from pydantic_core import from_json

from portico.errors import ConfigurationError
from portico.sse import EventDecoder
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from types import TracebackType

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to reach the server in."""
SILENCE: Final = 300.0
"""Seconds without a byte after which an answer counts as dead; servers send pings more often."""
PATIENCE: Final = 30.0
"""Seconds for which a server is waited for that has been there before."""
PAUSES: Final = (0.05, 2.0)
"""Seconds between two attempts to reach it: the first, which doubles, and the longest."""
ANSWER_LIMIT: Final = 32 * 1024 * 1024
"""Bytes that an answer of one message may have."""

SESSION: Final = "mcp-session-id"
"""The header with the session of the old era."""


class Unanswered(Exception):
    """No answer will come.

    Args:
        sentence: why.
        error: the JSON-RPC error that the server gave as the reason, if it did.
        status: the status of its answer.
        began: whether the server may have begun what it was asked for.
    """

    def __init__(
        self, sentence: str, *, error: Mapping[str, Any] | None = None, status: int | None = None, began: bool = False
    ) -> None:
        super().__init__(sentence)
        self.error = error
        self.status = status
        self.began = began


class Reply:
    """An answer that has begun."""

    def __init__(self, response: httpx2.Response, url: str) -> None:
        self._response = response
        self._url = url
        self.last_event: str | None = None
        """The id of the last event, under which a stream can be taken up again."""

    @property
    def session(self) -> str | None:
        """The session that the server has opened."""
        return self._response.headers.get(SESSION)

    async def messages(self) -> AsyncGenerator[dict[str, Any]]:
        """What the server says, one message after the other. Raises `Unanswered`."""
        kind = self._response.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if kind == "text/event-stream":
                async for message in self._events():
                    yield message
            elif kind == "application/json":
                message = _message(await _whole(self._response, self._url))
                if message is None:
                    raise Unanswered(f"{self._url} answered with what is no message of JSON-RPC.", began=True)
                yield message
            elif self._response.status_code != HTTPStatus.ACCEPTED:
                raise Unanswered(f"{self._url} answered with {kind or 'nothing'}: is it the address of an MCP endpoint?")
        except httpx2.TransportError as error:
            raise Unanswered(f"The connection to {self._url} broke before its answer came ({_why(error)}).", began=True) from None
        except ValueError as error:
            raise Unanswered(f"The answer of {self._url} cannot be read: {error}.", began=True) from None

    async def _events(self) -> AsyncGenerator[dict[str, Any]]:
        decoder = EventDecoder()
        async for chunk in self._response.aiter_bytes():
            for event in decoder.feed(chunk):
                self.last_event = event.id or self.last_event
                message = _message(event.data) if event.name == "message" else None
                if message is not None:
                    yield message


class Link:
    """The way to one server. Use it as a context manager.

    Args:
        url: of the MCP endpoint.
        headers: sent with every request, such as a credential.

    Raises:
        ConfigurationError: what is no address, or no header.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        try:
            address = httpx2.URL(url)
            wrong = address.scheme not in ("http", "https") or not address.host or bool(address.userinfo)
        except (httpx2.InvalidURL, ValueError):
            wrong = True
        if wrong:
            raise ConfigurationError(f"{shown(url)!r} is no address of an MCP endpoint: such as http://127.0.0.1:8080/mcp.")
        self.url = url
        try:
            self._client = httpx2.AsyncClient(
                headers={"user-agent": f"portico/{__version__}", **headers},
                timeout=httpx2.Timeout(CONNECT_TIMEOUT, read=SILENCE, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            )
        except (ValueError, UnicodeError):
            raise ConfigurationError("A header cannot be sent: write it as 'Name: value', in plain characters.") from None
        self._reached = False

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self._client.__aexit__(exc_type, exc_val, exc_tb)

    @asynccontextmanager
    async def post(self, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[Reply]:
        """Send a message. Raises `Unanswered`, also where the server refuses it."""
        accepts = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        async with self._sent("POST", {**accepts, **headers}, body) as reply:
            yield reply

    @asynccontextmanager
    async def listen(self, headers: Mapping[str, str]) -> AsyncGenerator[Reply]:
        """Open the stream of what the server has to say by itself. Raises as `post`."""
        async with self._sent("GET", {"accept": "text/event-stream", **headers}) as reply:
            yield reply

    async def leave(self, headers: Mapping[str, str]) -> None:
        """End a session, where the server is there to hear it."""
        try:
            await self._client.request("DELETE", self.url, headers=dict(headers))
        except httpx2.HTTPError:
            return

    @asynccontextmanager
    async def _sent(self, method: str, headers: Mapping[str, str], body: bytes | None = None) -> AsyncGenerator[Reply]:
        request = self._client.build_request(method, self.url, headers=dict(headers), content=body)
        response = await self._response(request)
        try:
            if not response.is_success:
                raise await _refused(response, self.url)
            yield Reply(response, self.url)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    async def _response(self, request: httpx2.Request) -> httpx2.Response:
        """The head of the answer. A request that cannot be delivered is sent again while the server may come back."""
        give_up = anyio.current_time() + (PATIENCE if self._reached else 0)
        pause, longest = PAUSES
        while True:
            try:
                response = await self._client.send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if anyio.current_time() >= give_up:
                    raise Unanswered(f"{self.url} cannot be reached ({_why(error)}). Does the gateway run?") from None
                await anyio.sleep(pause)
                pause = min(pause * 2, longest)
            except httpx2.ReadTimeout:
                raise Unanswered(f"{self.url} has said nothing for {SILENCE:g} seconds.", began=True) from None
            except httpx2.HTTPError as error:
                raise Unanswered(
                    f"The connection to {self.url} broke before its answer came ({_why(error)}).", began=True
                ) from None
            else:
                self._reached = True
                return response


def shown(url: str) -> str:
    """An address without the credentials that may stand in it."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if found else url.rpartition("@")[2]


async def _refused(response: httpx2.Response, url: str) -> Unanswered:
    """What a refusal says."""
    status = response.status_code
    try:
        body = _message(await _whole(response, url)) or {}
    except (ValueError, httpx2.HTTPError):
        body = {}
    error: Any = body.get("error")
    if isinstance(error, dict) and isinstance(cast("dict[str, Any]", error).get("code"), int):
        known = cast("dict[str, Any]", error)
        return Unanswered(str(known.get("message")), error=known, status=status)
    if response.is_redirect:
        return Unanswered(f"{url} has moved to {response.headers.get('location')!r}: give that address.", status=status)
    detail = body.get("detail")
    hint = {401: " Set PORTICO_API_KEY to a key, or give --header.", 404: " Is it the address of an MCP endpoint?"}.get(status, "")
    said = f" {detail}" if isinstance(detail, str) else hint
    return Unanswered(f"{url} answered {status} {responses.get(status, '')}.".replace(" .", ".") + said, status=status)


async def _whole(response: httpx2.Response, url: str) -> bytes:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > ANSWER_LIMIT:
                raise Unanswered(f"{url} answered with more than {ANSWER_LIMIT} bytes.", began=True)
    return bytes(body)


def _message(text: bytes | str) -> dict[str, Any] | None:
    """A message; None for what is no object. Raises `ValueError` for what is no JSON."""
    value: Any = from_json(text) if text else None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
