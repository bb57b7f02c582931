"""Wire: one HTTP/1.1 connection to a server, kept open; one POST at a time, answered with JSON or with server-sent events.

Above: `direct.py`, which has many. It knows HTTP and no MCP. The parser is httptools, which uvicorn reads requests with: a client
library of its own would cost more time than everything else of a call.
"""

from __future__ import annotations

import asyncio
import select
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from portico.mcp_bridge.calling.oversize import oversized
from portico.sse import EventDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT: Final = 4.0
"""Seconds that a connection is kept without a call. Many servers close theirs after 5."""
LINGER: Final = 1.0
"""Seconds in which a stream has to end that has given its answer; else its connection is closed."""
LONGEST_STREAM: Final = 32 * 1024 * 1024
"""Bytes that a whole stream may have, with the news before its answer."""
LONGEST_HEAD: Final = 64 * 1024
"""Bytes, about, that may come in a row and are no body: heads, interim responses, trailers. The parser itself knows no bound."""
LONGEST_REASON: Final = 200
"""Characters of one reason."""
EVENTS: Final = "text/event-stream"


class BrokenWireError(Exception):
    """The connection broke before there was an answer. `sent`: whether the server can have got the whole request."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class NoAnswerError(Exception):
    """What the server sent is no answer: not HTTP, too large, or a stream that ended early."""

    data: Mapping[str, Any] | None = None
    """Says so where it was too large, as the errors of the SDK's client do (`oversize.py`)."""


@dataclass(slots=True)
class Answer:
    """The response to one POST."""

    status: int = 0
    """The status code."""
    media_type: str = ""
    """Without its parameters, in lower case."""
    body: bytes = b""
    """The whole body; of events, the data of the one that `hear` took for the answer."""

    @property
    def ok(self) -> bool:
        """Whether it is of the 2xx kind."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


class Wire(asyncio.Protocol):
    """One connection.

    Args:
        free: called when it can take another request.
        lost: called when it has ended.
        most: bytes that one message of the server may have.
    """

    def __init__(self, free: Callable[[Wire], object], lost: Callable[[Wire], object], most: int) -> None:
        self._most = most
        self._free = free
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._idle_since = 0.0
        self._flushed = True
        self._linger: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._hear: Callable[[str], bool] | None = None
        self._answer = Answer()
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._size = self._around = 0
        self._events: EventDecoder | None = None
        self._framed = self._stays = False
        self._began = self._whole = False

    @property
    def usable(self) -> bool:
        """Whether a request can go out: it is open, was not idle for long, and the server has not closed it meanwhile."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._loop.time() - self._idle_since > KEPT:
            return False
        return not self._poll.poll(0)  # an idle connection has nothing to say but its end

    async def post(self, request: bytes, hear: Callable[[str], bool]) -> Answer:
        """Send one request, head and body, and wait for its answer. Cancelled, it closes the connection: the server sees that.

        Args:
            request: the bytes.
            hear: called with the data of each server-sent event, in order; True where that is the answer.

        Raises:
            BrokenWireError: the connection ended first.
            NoAnswerError: what came is no answer.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BrokenWireError("it closed the connection", sent=False)
        self._begin()
        self._answer, self._hear = Answer(), hear
        waiter = self._waiter = self._loop.create_future()
        transport.write(request)
        try:
            answer = await waiter
        except BaseException:
            self._waiter = None
            self.close()
            raise
        self._waiter = None
        if self._whole:
            self._release()
        else:
            self._linger = self._loop.call_later(LINGER, self.close)
        return answer

    def close(self) -> None:
        """Close it at once."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport tells -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)  # so that `pause_writing` tells of every byte that is not out yet
        self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._idle_since = self._loop.time()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._flushed = False

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._flushed = True

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._waiter is None and self._linger is None:  # it speaks unasked
            self.close()
            return
        self._around += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What a callback raised comes wrapped.
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            self._fail(cause if isinstance(cause, NoAnswerError) else NoAnswerError(f"it does not speak HTTP ({_line(error)})"))
        if self._around > LONGEST_HEAD:
            self._fail(NoAnswerError(f"more than {LONGEST_HEAD} bytes of what it sends are no answer"))

    def eof_received(self) -> None:
        """See `asyncio.Protocol`. A body without a length ends so."""
        if self._began and not self._framed and not self._whole and self._waiter is not None:
            self.on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._linger is not None:
            self._linger.cancel()
        reason = _line(exc) if exc is not None else "it closed the connection"
        self._settle(BrokenWireError(reason, sent=self._flushed or self._began))
        self._transport = None
        self._lost(self)

    # --- what the parser tells ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools. What follows a whole answer at once was not asked for, and is nobody's."""
        if self._whole:
            raise NoAnswerError("it answers more than was asked")
        self._framed = False
        self._answer.media_type = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        name = name.lower()
        if name == b"content-type":
            self._answer.media_type = value.partition(b";")[0].strip().lower().decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """See httptools."""
        status = self._answer.status = self._parser.get_status_code()
        self._stays = self._framed and self._parser.should_keep_alive()
        self._began = status >= HTTPStatus.OK
        if self._began and self._answer.ok and self._answer.media_type == EVENTS:
            self._events = EventDecoder()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._size += len(body)
        self._around = 0
        if self._size > (self._most if self._events is None else LONGEST_STREAM):
            raise self._too_long()
        if self._events is None:
            self._pieces.append(body)
            return
        try:
            for event in self._events.feed(body):
                if len(event.data) > self._most:
                    raise self._too_long()
                self._take(event.data)
        except ValueError as error:
            raise NoAnswerError(str(error)) from error

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self._began:  # an interim response, such as 100
            return
        self._whole = True
        if self._events is None:
            self._answer.body = b"".join(self._pieces)
            self._settle(None)
        else:
            for event in self._events.end():
                self._take(event.data)
            self._settle(NoAnswerError("its stream of events ended without an answer"))
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
            self._release()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _too_long(self) -> NoAnswerError:
        about = oversized(self._most)
        error = NoAnswerError(about["message"])
        error.data = about["data"]
        return error

    def _take(self, data: str) -> None:
        hear = self._hear
        if hear is not None and data and hear(data):
            self._answer.body = data.encode()
            self._settle(None)

    def _settle(self, error: Exception | None) -> None:
        waiter, self._hear = self._waiter, None
        if waiter is None or waiter.done():
            return
        if error is None:
            waiter.set_result(self._answer)
        else:
            waiter.set_exception(error)

    def _release(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not self._stays:
            transport.close()
            return
        self._idle_since = self._loop.time()
        self._free(self)

    def _fail(self, error: NoAnswerError) -> None:
        self._settle(error)
        self.close()


def _line(error: BaseException) -> str:
    """One line about an error, of a length that a stranger does not choose."""
    return (str(error).splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
