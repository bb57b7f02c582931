"""GatewayProtocol: one HTTP/1.1 connection, as uvicorn speaks it, with bounds on what the server waits for and holds.

uvicorn waits without limit for the rest of a head or a body, and takes heads of any length. Here a head has to be there within
`read_timeout` seconds, and a body within as many and one more for every `SLOWEST` bytes of it. What is no HTTP is a problem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from portico.errors import BadRequest, HeadTooLarge, PorticoError, RequestTimedOut
from portico.kernel.messages import new_id
from portico.routes.problems import MEDIA_TYPE, problem, rendered, status_of

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_HEAD: Final = 64 * 1024
"""Bytes that the request line and the headers may have together."""
SLOWEST: Final = 500
"""Bytes per second at which a body may come."""
PHRASES: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class GatewayProtocol(HttpToolsProtocol):
    """One connection. uvicorn takes a class and makes the instances: `protocol_of` makes the class for one server."""

    read_timeout: ClassVar[float] = 20.0
    """Seconds."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._patience: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._came = 0
        self._whole = True
        self._in_head = True
        self._refusal: PorticoError | None = None

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
        self._came += len(data)
        super().data_received(data)
        if self._whole:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            self._came = 0
        elif self._in_head and self._came > MAX_HEAD:
            self._refuse(HeadTooLarge(MAX_HEAD))
        elif self._patience is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for any more."""
        super().connection_lost(exc)
        self._stop_waiting()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._whole, self._in_head = False, True

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if self._came > MAX_HEAD and len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD:
            self._refusal = HeadTooLarge(MAX_HEAD)
            raise self._refusal  # the parser hands it on as an error of its own
        self._in_head = False
        super().on_headers_complete()
        if self._patience is not None:  # the body has a time of its own
            self._stop_waiting()
            self._came = 0

    def on_message_complete(self) -> None:
        """It is there."""
        self._whole = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Another protocol goes on from here."""
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or no HTTP that a server has to take."""
        self._refuse(self._refusal or BadRequest(f"{msg.rstrip('.')}: it does not follow RFC 9112."))

    # --- patience -----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        self._began = self.loop.time()
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
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn says that there always is one
        busy = cycle is not None and not cycle.response_complete
        answered = busy  # with a pipelined request in hand, its answer would come first
        if cycle is not None and busy and not self._in_head:
            answered = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
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
