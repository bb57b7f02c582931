"""GatewayProtocol: one HTTP/1.1 connection, as uvicorn speaks it, with bounds on what the server waits for and holds.

uvicorn waits without limit for the rest of a head or a body, and takes heads of any length. Here a head has to be there within
`read_timeout` seconds, and a body within as many and one more for every `SLOWEST` bytes of it. What is no HTTP is a problem.

Nor does uvicorn bound how many requests a client sends ahead of their answers (pipelining), or tell the one in hand that its client
has left while others wait behind it. Here one piece of what comes is read into requests, and the rest waits as bytes.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from portico.errors import BadRequest, HeadTooLarge, PorticoError, RequestTimedOut
from portico.kernel.messages import new_id
from portico.routes.problems import MEDIA_TYPE, problem, rendered, status_of

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD: Final = 64 * 1024
"""Bytes that the request line and the headers may have together, to the end of a piece."""
SLOWEST: Final = 500
"""Bytes per second at which a body may come."""
PIECE: Final = 8 * 1024
"""Bytes that are read into requests at a time: all that are in them wait for their turn."""
AHEAD: Final = 64 * 1024
"""Bytes that wait, unread, behind them, before nothing more is taken from the client."""
LATE: Final = 256 * 1024
"""Bytes that are taken of a client that sends ahead while the server stops: a connection that is closed with more is reset."""
PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class _Flow(FlowControl):
    """When to read from a client that sends ahead: also whoever waits for a request's body, or for its client to leave, says so."""

    full = False
    """Whether enough of what has come waits."""

    def resume_reading(self) -> None:
        """Unless enough waits, or the connection is closed: uvloop takes that for a mistake."""
        if self.read_paused and not self.full and not self._transport.is_closing():
            super().resume_reading()

    def pause_reading(self) -> None:
        """Unless the connection is closed."""
        if not self._transport.is_closing():
            super().pause_reading()


# Looked up once: they are called for every request, and `super()` costs as much as what is done here.
_uvicorn_data_received = HttpToolsProtocol.data_received
_uvicorn_on_response_complete = HttpToolsProtocol.on_response_complete
_uvicorn_start = HttpToolsProtocol._start_asgi_task  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # where a request is begun


class GatewayProtocol(HttpToolsProtocol):
    """One connection. uvicorn takes a class and makes the instances: `protocol_of` makes the class for one server."""

    # Slots, beside uvicorn's own attributes: with more than thirty in one dictionary, each look-up of any of them becomes slower.
    __slots__ = ("_began", "_came", "_held", "_patience", "_room", "_running", "_upgraded", "_waits_for_head")

    read_timeout: ClassVar[float] = 20.0
    """Seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._came = 0
        """Bytes of the request that is coming."""
        self._waits_for_head = True
        self._upgraded = False
        self._running: RequestResponseCycle | None = None
        """The request in hand, or the last one. `cycle` is the last that came."""
        self._held = bytearray()
        """What has come behind the requests that wait."""
        self._room: float = inf
        """Bytes that are still taken: how many shows when the server stops."""

    @property
    def silent(self) -> bool:
        """Whether its client has asked nothing yet, or not to the end of a head."""
        return cast("RequestResponseCycle | None", self.cycle) is None

    # --- what uvicorn calls -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # uvicorn's own
        """A client that connects and says nothing is not waited for any longer than one that stops in the middle."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Most requests come whole, and cost nothing here."""
        if len(data) > PIECE or self._held or self.pipeline:
            self._held += data
            self._room -= len(data)
            self._go_on()
            return
        self._read(data)
        if self.pipeline:
            self._hold()

    def _read(self, data: bytes) -> None:
        """One piece. Every request comes this way: where it is whole, it costs a few comparisons."""
        before = self.scope
        _uvicorn_data_received(self, data)
        if self._upgraded:
            return
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope and not cycle.more_body:  # pyright: ignore[reportUnnecessaryComparison]  # None at first
            if self._patience is not None:
                self._stop_waiting()
            self._came = 0
            return
        self._came = len(data) if self.scope is not before else self._came + len(data)
        in_head = self._in_head
        if in_head and self._came > MAX_HEAD:
            self._refuse(HeadTooLarge(MAX_HEAD))
        elif self._patience is None:
            self._wait()
        elif self._waits_for_head and not in_head:  # the body has a time of its own
            self._stop_waiting()
            self._came = 0
            self._wait()

    @property
    def _in_head(self) -> bool:
        """Whether a request's head is not whole: uvicorn makes its scope at the first byte, and its cycle after the head."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.scope is not self.scope

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more, and nothing is begun. uvicorn tells the last request that came, not the one in hand."""
        self.pipeline.clear()
        self._held.clear()
        self._abandon()
        super().connection_lost(exc)
        self._stop_waiting()

    def on_response_complete(self) -> None:
        """The next request, and room for more of what waits."""
        _uvicorn_on_response_complete(self)
        if self._held:
            self._go_on()

    def shutdown(self) -> None:
        """The server stops: what has come is answered, and then the connection closed."""
        if self._held:
            self._room = LATE
        else:
            super().shutdown()

    def handle_websocket_upgrade(self) -> None:
        """Another protocol goes on from here: only where nothing is in hand, whose answer would run into its frames."""
        if self._busy:
            self._abandon()
            self.transport.close()
            return
        self._upgraded = True
        self._stop_waiting()
        self._held.clear()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or no HTTP that a server has to take."""
        self._refuse(BadRequest(f"{msg.rstrip('.')}: it does not follow RFC 9112."))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        _uvicorn_start(self, cycle, app)

    # --- what comes ahead of its turn ---------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        """Whether a request is in hand."""
        return self._running is not None and not self._running.response_complete

    def _abandon(self) -> None:
        """Nobody reads the answer of the request in hand: it may not be written to a connection that is closed."""
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()

    def _go_on(self) -> None:
        """Read on, until a request waits behind the one in hand."""
        while self._held and not self.pipeline and not self.transport.is_closing():
            piece = bytes(self._held[:PIECE])
            del self._held[:PIECE]
            self._read(piece)
        self._hold()
        if self._room < inf and not self._held:
            super().shutdown()

    def _hold(self) -> None:
        """Take more from the client or not. As long as some is taken it is also seen that the client leaves."""
        flow = self.flow
        if not isinstance(flow, _Flow):  # who has it in hand keeps it: only now is there more to ask before reading on
            flow.__class__ = _Flow
            flow = cast("_Flow", flow)
        flow.full = len(self._held) >= AHEAD or self._room <= 0
        if flow.full:
            flow.pause_reading()
        elif self.pipeline:  # else uvicorn knows what the body of the request in hand has room for
            flow.resume_reading()

    # --- patience -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._began, self._waits_for_head = self.loop.time(), self._in_head
        self._patience = self.loop.call_later(self.read_timeout, self._look)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _look(self) -> None:
        """The time is over, unless a body has come fast enough to have more of it."""
        self._patience = None
        if self.transport.is_closing():
            return
        if self.pipeline or (self._in_head and self._busy):  # there is something to wait for, or to do
            self._wait()
            return
        until = self._began + self.read_timeout + (0 if self._in_head else self._came / SLOWEST)
        if until > self.loop.time():
            self._patience = self.loop.call_at(until, self._look)
        elif self._came or not self._in_head:
            self._refuse(RequestTimedOut(self.read_timeout))
        else:
            self.transport.close()  # nothing was said, so nothing is answered

    def _refuse(self, error: PorticoError) -> None:
        """Answer with a problem where nothing was answered yet, and close. For whoever reads the request its client is gone."""
        self._stop_waiting()
        running = self._running
        answered = self._busy  # with a pipelined request in hand, its answer would come first
        if running is not None and answered and running is self.cycle and not self._in_head:
            answered = running.response_started
        self._abandon()
        if not answered and not self.transport.is_closing():
            self.transport.write(_response(error))
        self.transport.close()


def _response(error: PorticoError) -> bytes:
    request_id = new_id()
    status = status_of(error)
    body = rendered(problem(error, request_id=request_id))
    head = b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nx-request-id: %s\r\nconnection: close\r\n\r\n"
    return head % (status, PHRASES[status], MEDIA_TYPE.encode(), len(body), request_id.encode()) + body


def protocol_of(read_timeout: float, kind: type[GatewayProtocol] = GatewayProtocol) -> type[GatewayProtocol]:
    """The class for one server."""
    return type(kind.__name__, (kind,), {"read_timeout": read_timeout})
