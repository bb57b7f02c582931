"""Compression: replies as gzip, where the client takes it and they are long enough for it to pay.

Small replies cost one comparison of lengths. Event streams are never compressed: each event would wait for the next. Agent replies
are compressed where they are written; what FastAPI serves goes through the middleware.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipResponder, IdentityResponder

from portico.routes.exchange import header, route_path
from portico.routes.json_lines import JSON_LINES
from portico.routes.server_sent_events import EVENT_STREAM

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST: Final = 1024
"""Bytes that a reply must have: of a shorter one little would be saved."""
LEVEL: Final = 5
"""How hard zlib tries, from 1 to 9."""
IN_A_THREAD: Final = 128 * 1024
"""Bytes from which on the event loop would notice it (some milliseconds)."""
STREAMS: Final = (*JSON_LINES, EVENT_STREAM)
"""What consists of events."""
VARY: Final = (b"vary", b"Accept-Encoding")
GZIP: Final = (b"content-encoding", b"gzip")
_EXCLUDED: Final = (*DEFAULT_EXCLUDED_CONTENT_TYPES, *STREAMS)
_WORTH_IT: Final = re.compile(
    rb"(?:application/(?:[\w.+-]+\+)?(?:json|xml)|application/javascript|text/(?!event-stream)[\w.+-]+)\s*(?:;|$)"
)
"""What becomes much shorter: text of any kind."""


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip (RFC 9110 §12.5.3): it is named, or `*` is, and not with `q=0`."""
    weights: dict[str, bool] = {}
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.partition(";")
        name, _, weight = parameters.replace(" ", "").partition("=")
        weights[coding.strip()] = name != "q" or weight.strip("0.") != ""
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


async def compressed(body: bytes, headers: list[tuple[bytes, bytes]], accept_encoding: bytes | None) -> bytes:
    """A long reply, compressed where its kind allows that and the client takes it; its headers are changed to say so."""
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    if not _WORTH_IT.match(kind.lower()) or any(name == GZIP[0] for name, _ in headers):
        return body
    headers.append(VARY)
    if accept_encoding is None or not takes_gzip(accept_encoding.decode("latin-1")):
        return body
    packed = await anyio.to_thread.run_sync(_gzip, body) if len(body) >= IN_A_THREAD else _gzip(body)
    headers[:] = [(name, _weak(value) if name == b"etag" else value) for name, value in headers]
    headers.append(GZIP)
    return packed


class Compression:
    """ASGI middleware, for responses that are not written by this room. `left_out`: paths whose responses stay as they are."""

    def __init__(self, app: ASGIApp, left_out: Collection[str] = ()) -> None:
        self._app = app
        self._left_out = frozenset(left_out)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or route_path(scope) in self._left_out:
            await self._app(scope, receive, send)
            return
        options: Any = {"exclude_content_types": _EXCLUDED}
        if takes_gzip(header(scope, b"accept-encoding") or ""):
            responder: ASGIApp = GZipResponder(self._app, LEAST, compresslevel=LEVEL, **options)
        else:
            responder = IdentityResponder(self._app, LEAST, **options)

        async def weakened(message: Message) -> None:
            if message["type"] == "http.response.start" and any(name == GZIP[0] for name, _ in message["headers"]):
                message["headers"] = [(name, _weak(value) if name == b"etag" else value) for name, value in message["headers"]]
            await send(message)

        await responder(scope, receive, weakened)


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def _weak(tag: bytes) -> bytes:
    """An entity tag for two encodings of the same: a strong one may stand for the bytes alone (RFC 9110 §8.8.1)."""
    return tag if tag.startswith(b"W/") else b"W/" + tag
