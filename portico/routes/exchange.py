"""Exchange: one HTTP request and its response, without a framework in between.

Reads the body within a limit, writes whole responses. What the compiled routes, the guards and the streams have in common.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from portico.errors import BadRequest, BodyTooLarge, MalformedBody, MalformedHeader, UnsupportedEncoding, UnsupportedMediaType
from portico.routes.problems import headers_of, problem, rendered, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.types import Receive, Scope, Send

PRINCIPAL: Final = "portico.principal"
"""The scope key under which authentication leaves who calls (a string, or None)."""
SCOPES: Final = "portico.scopes"
"""The scope key of what the caller may do (a frozenset of strings, or None where the gateway knows no callers)."""
RENEW: Final = "portico.renew"
"""The scope key under which authentication leaves what asks anew who calls: for a WebSocket, or a stream,
that has shown a key or a token."""
PEER: Final = "portico.peer"
"""The scope key under which the server leaves who the client's TLS certificate speaks for (a string, or None)."""
REQUEST_ID: Final = "portico.request_id"
"""The scope key of the request's id."""
BEGUN: Final = "portico.begun"
"""The scope key of when the request arrived: seconds of `time.perf_counter`."""
CALL: Final = "portico.call"
"""The scope key of the `Call` that a request has become."""
ENDPOINT: Final = "portico.endpoint"
"""The scope key of the `Endpoint` that a request is for, also where it became no call."""
PREFIX: Final = "portico.prefix"
"""The scope key of the path at which the gateway is mounted."""

JSON: Final = b"application/json"
REPLAYED: Final = (b"idempotency-replayed", b"true")
"""The header of a response that an earlier request with the same idempotency key had."""
_KEY: Final = re.compile(r'"([!#-~]{1,255})"|([!#-~]{1,255})')
"""An idempotency key: printable ASCII without blanks and quotes, which may stand around it."""

LINGER: Final = 1.0
"""Seconds for which the rest of a body that is too large is thrown away, before the connection is closed."""
LINGER_BYTES: Final = 64 * 1024 * 1024
"""How much of it, at most."""

Headers = list[tuple[bytes, bytes]]


class ClientLeftError(Exception):
    """The client went away before its request was whole; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> str | None:
    """A request header's value, or None. Of several the first."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def prefix(scope: Scope) -> str:
    """Where the gateway is mounted; empty where it is the whole application. A mount further in changes `root_path`, not this."""
    found: str | None = scope.get(PREFIX)
    return scope.get("root_path", "") if found is None else found


def route_path(scope: Scope) -> str:
    """The path below the place where the gateway is mounted."""
    path: str = scope["path"]
    root = prefix(scope)
    return path[len(root) :] if root and path.startswith(root) else path


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it is, or says that it is, longer than `limit` bytes; it is not read to the end.
        MalformedHeader: the Content-Length is no number.
        UnsupportedEncoding: it is compressed.
        ClientLeftError: the client left before the end.
    """
    announced = headers.get(b"content-length")
    if announced is not None and not (announced.isdigit() and len(announced) < 19 and int(announced) <= limit):  # noqa: PLR2004  # see below
        raise _refusal_of_length(announced, limit)
    if b"content-encoding" in headers:
        _check_encoding(headers[b"content-encoding"])
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(limit)
        return body
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLarge(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()


def _refusal_of_length(announced: bytes, limit: int) -> BadRequest:
    """Why a body of this length is not read: a client that waits for a 100 then does not send it. Python reads 4300 digits."""
    if announced.isdigit():
        return BodyTooLarge(limit)
    return MalformedHeader(f"Content-Length is {announced.decode('latin-1')!r}: it must be a number of bytes.")


def _check_encoding(coding: bytes) -> None:
    if coding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedEncoding(coding.decode("latin-1"))


def idempotency_key(value: bytes | None) -> str | None:
    """The key in an `Idempotency-Key` header, which is text in quotes (RFC 8941) or bare. Raises `MalformedHeader`."""
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    match = _KEY.fullmatch(text)
    if match is None:
        raise MalformedHeader(f"Idempotency-Key is {text!r}: it must be 1 to 255 visible ASCII characters, in quotes or not.")
    return match[1] or match[2]


def is_json(media_type: str) -> bool:
    """Whether a media type, in lower case and without its parameters, is JSON (RFC 6839 §3.1)."""
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def check_media_type(content_type: bytes) -> None:
    """Raises `UnsupportedMediaType` where a body does not say that it is JSON."""
    if content_type != JSON and not is_json(content_type.partition(b";")[0].strip().lower().decode("latin-1")):
        raise UnsupportedMediaType(content_type.decode("latin-1"))


def parse(body: bytes) -> Any:
    """A body as RFC 8259 JSON. Raises `MalformedBody`: not UTF-8, NaN, cut short, too deep."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedBody(f"The body is not JSON: {error}.") from None


def encoded(headers: Mapping[str, str]) -> Headers:
    """Headers in ASGI's form. Raises `UnicodeEncodeError` for what no header can hold."""
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]


async def respond(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send a whole response; the Content-Length is added."""
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def respond_unread(receive: Receive, send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send a whole response to a request whose body is not read, and throw away what still comes of it for a moment.

    A connection that is closed with unread bytes in it is reset, and its client may lose the response (RFC 9112 §9.6).
    """
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            thrown_away = 0
            while thrown_away < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    break
                thrown_away += len(message.get("body", b""))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def respond_with_problem(
    scope: Scope,
    send: Send,
    error: BaseException,
    run_id: str | None = None,
    *,
    replayed: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = (),
    receive: Receive | None = None,
) -> None:
    """Send an error as a problem, with `headers` beside its own. Of a WebSocket, it is the answer to the handshake.

    `replayed`: it is the stored outcome of an earlier request with the same key. `receive`: from where a body may still come.
    """
    about = problem_of(scope, error, run_id)
    own = [*encoded(headers_of(error)), *headers]
    if scope["type"] == "websocket":
        await _refuse_handshake(scope, send, about, own)
    elif receive is not None and isinstance(error, BodyTooLarge):
        await respond_unread(receive, send, status_of(error), rendered(about), own)
    else:
        await respond(send, status_of(error), rendered(about), [*own, REPLAYED] if replayed else own)


async def _refuse_handshake(scope: Scope, send: Send, about: Mapping[str, Any], headers: Headers) -> None:
    """Answer a WebSocket handshake with a problem; with a close, where the server has no `websocket.http.response` extension."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": about["title"]})
        return
    await send({"type": "websocket.http.response.start", "status": about["status"], "headers": headers})
    await send({"type": "websocket.http.response.body", "body": rendered(about)})


def problem_of(scope: Scope, error: BaseException, run_id: str | None = None) -> dict[str, Any]:
    """An error as the problem object of this request."""
    return problem(error, prefix=prefix(scope), request_id=scope.get(REQUEST_ID), run_id=run_id)
