"""DirectCall: one `tools/call` over HTTP that is answered directly, while it is handled.

Above: `direct.py`. One that lingers is handed over by the dispatcher, and gets a task that notices when its client leaves, and
sends a sign of life now and then, for which the answer becomes an event stream, as the SDK's does: of the old era at once, of the
new one when it is due.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from portico.mcp_bridge.serving.plain_call import MODERN

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from portico.mcp_bridge.serving.lingering import Lingering
    from portico.runs.call import Call
    from portico.runs.run import Run

SIGN_OF_LIFE: Final = 15.0
"""Seconds without a word, at most."""
PING: Final = b": ping\r\n\r\n"
JSON_HEADER: Final = (b"content-type", b"application/json")
STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)


class DirectCall:
    """One call. `own_headers`: those that its response has beside."""

    __slots__ = (
        "_call",
        "_lingering",
        "_own_headers",
        "_receive",
        "_send",
        "_streams",
        "_task",
        "_watcher",
        "cancelled",
        "closed",
        "version",
    )

    def __init__(
        self,
        call: Call,
        lingering: Lingering,
        receive: Receive,
        send: Send,
        version: str,
        own_headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.version = version
        """The revision of the protocol that its client speaks."""
        self.cancelled = False
        """Whether its client has taken it back: by a notification, or in the new era by leaving."""
        self.closed = False
        """Whether its session has ended."""
        self._call = call
        self._lingering = lingering
        self._receive = receive
        self._send = send
        self._own_headers = own_headers
        self._streams = False
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        lingering.enter(self)

    @property
    def run(self) -> Run | None:
        """What becomes of it."""
        return self._call.run

    def linger(self) -> None:
        """It takes long: whoever awaits it is told so (`HandedOver`)."""
        dispatcher = self._lingering.dispatcher
        dispatcher.hand_over(self._call)
        self._watcher = dispatcher.runtime.router.start_task(self._watch(), "mcp-call")

    def end(self) -> None:
        """It is handled, and not yet answered."""
        self._lingering.leave(self)
        self._task = None
        if self._watcher is not None:
            self._watcher.cancel()

    def cancel(self) -> None:
        """Its client takes it back."""
        if self._task is not None and not self.cancelled:
            self.cancelled = True
            self._task.cancel()

    def close(self) -> None:
        """Its session ends."""
        if not self.closed:
            self.closed = True
            self.cancel()

    def was_taken_back(self) -> bool:
        """Whether the cancellation that has just been raised is this one's; then its task goes on."""
        if self.cancelled and self._task is not None:
            self._task.uncancel()
        return self.cancelled

    async def tell(self, message: bytes) -> None:
        """Send a message before the one that answers it."""
        await self._begin_stream()
        await self._send({"type": "http.response.body", "body": _event(message), "more_body": True})

    async def answer(self, message: bytes, status: int = 200) -> None:
        """Send the message that answers it. `status`: of the response, where it has not begun."""
        send = self._send
        if self.cancelled:
            await self._begin_stream()  # some clients that leave a session look away from anything but streams
        if self._streams:
            await send({"type": "http.response.body", "body": _event(message)})
            return
        headers = [JSON_HEADER, *self._own_headers, (b"content-length", b"%d" % len(message))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": message})

    async def _watch(self) -> None:
        """Until its client leaves; in the old era it goes on even then."""
        if self.version != MODERN:
            await self._begin_stream()
        while not await self._left_within(SIGN_OF_LIFE):
            await self._begin_stream()
            await self._send({"type": "http.response.body", "body": PING, "more_body": True})
        if self.version == MODERN:
            self.cancel()

    async def _begin_stream(self) -> None:
        if not self._streams:
            headers = [*STREAM_HEADERS, *self._own_headers]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            self._streams = True

    async def _left_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
                return True
        return False


def _event(message: bytes) -> bytes:
    return b"event: message\r\ndata: %b\r\n\r\n" % message
