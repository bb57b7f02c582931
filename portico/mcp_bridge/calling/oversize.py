"""Oversize: a message of a server that is longer than it may be. Reading stops, and the call that it answers is told.

Above: the transports. What a result that has arrived may have is looked at in `toolset.py`; here nothing that large arrives.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

import httpx2
from mcp.types import INTERNAL_ERROR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.shared.exceptions import MCPError
    from mcp.types import RequestId

    from portico.mcp_bridge.config import MCPServerConfig

OVERSIZED: Final = "portico/oversized"
"""In the data of an error: the answer was longer than it may be."""
FLOOR: Final = 4 * 1024 * 1024
"""Bytes that a message may have in any case: a listing of tools is one."""
HEADROOM: Final = 3
"""A result is in its message up to this often: as text, as structured content, and escaped."""
_ID: Final = re.compile(rb'"id"\s*:\s*(\d{1,18}|"[^"\\]{1,200}")')
_HEAD: Final = re.compile(rb'\s*\{(\s*"jsonrpc"\s*:\s*"2\.0"\s*,)?\s*' + _ID.pattern)
_TAIL: Final = re.compile(_ID.pattern + rb'(\s*,\s*"jsonrpc"\s*:\s*"2\.0")?\s*\}\s*$')


def longest_message(config: MCPServerConfig) -> int:
    """Bytes that one message of a server may have."""
    return max(FLOOR, HEADROOM * config.max_result)


def is_oversized(error: BaseException | None) -> bool:
    """Whether an error stands for an answer that was too long."""
    data: Any = getattr(cast("MCPError | None", error), "data", None)
    return isinstance(data, dict) and OVERSIZED in cast("dict[str, Any]", data)


def oversized(most: int) -> dict[str, Any]:
    """The error that stands for such an answer."""
    return {"code": INTERNAL_ERROR, "message": f"its answer is longer than {most} bytes", "data": {OVERSIZED: True}}


def id_in(head: bytes, tail: bytes) -> RequestId | None:
    """Which request a message answers of which only the ends are known; None where they do not say."""
    found = _HEAD.match(head)
    text = found.group(2) if found is not None else None
    if text is None and (at_the_end := _TAIL.search(tail)) is not None:
        text = at_the_end.group(1)
    return None if text is None else json.loads(text)


async def bounded(request: httpx2.Request, response: httpx2.Response, most: int) -> httpx2.Response:
    """The response to a POST: a JSON body, or an event of a stream, that is too long becomes an error of its request."""
    if response.headers.get("content-encoding", "identity") != "identity":  # what it unpacks to cannot be known before
        await response.aclose()
        return _instead(request, {"code": INTERNAL_ERROR, "message": "its answer is compressed, though that was not asked for"})
    stream = cast("httpx2.AsyncByteStream", response.stream)
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        return _with(response, request, _Events(stream, request, most))
    pieces: list[bytes] = []
    size = 0
    async for piece in stream:
        pieces.append(piece)
        size += len(piece)
        if size > most:
            await stream.aclose()
            return _instead(request, oversized(most))
    await stream.aclose()
    return _with(response, request, httpx2.ByteStream(b"".join(pieces)))


class _Events(httpx2.AsyncByteStream):
    """Server-sent events with an end to each."""

    def __init__(self, stream: httpx2.AsyncByteStream, request: httpx2.Request, most: int) -> None:
        self._stream = stream
        self._request = request
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, last = 0, b""
        async for piece in self._stream:
            joined = last + piece
            ends = max(joined.rfind(b"\n\n"), joined.rfind(b"\r\r"), joined.rfind(b"\r\n\r\n"))
            size = size + len(piece) if ends < 0 else len(joined) - ends
            if size > self._most:
                error = json.dumps({"jsonrpc": "2.0", "id": _id_of(self._request), "error": oversized(self._most)})
                # What has come of the event ends as one of another kind, which nobody reads (HTML §9.2.6).
                yield f"\nevent: oversized\n\nevent: message\ndata: {error}\n\n".encode()
                return
            last = piece[-3:]
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _with(response: httpx2.Response, request: httpx2.Request, stream: Any) -> httpx2.Response:
    headers = [(key, value) for key, value in response.headers.multi_items() if key not in ("content-length", "transfer-encoding")]
    return httpx2.Response(
        response.status_code, headers=headers, stream=stream, request=request, extensions=dict(response.extensions)
    )


def _instead(request: httpx2.Request, error: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json={"jsonrpc": "2.0", "id": _id_of(request), "error": error}, request=request)


def _id_of(request: httpx2.Request) -> Any:
    try:
        return json.loads(request.content).get("id")
    except (ValueError, AttributeError, httpx2.RequestNotRead):
        return None
