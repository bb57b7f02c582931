"""DirectCall: one `tools/call` over HTTP that is answered directly, while it is handled; and the sweep over those that take long.

Above: `direct.py`. Most calls are over before anybody could leave or a proxy could lose patience, so they pay only for an entry in
a list. What is still there at the next look gets a task: it notices that the client leaves, and sends a sign of life now and then,
for which the answer becomes an event stream, as the SDK's does: of the old era at once, of the new one when it is due.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from portico.mcp_bridge.serving.plain_call import MODERN

if TYPE_CHECKING:
    from starlette.types import Receive, Send

    from portico.kernel.router import Router

SWEEP: Final = 0.025
"""Seconds between two looks at the list; each call gets its task after one to two of them."""
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
    """One call."""

    __slots__ = ("_calls", "_own_headers", "_receive", "_send", "_streams", "_task", "_watcher", "cancelled", "closed", "version")

    def __init__(
        self,
        calls: DirectCalls,
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
        self._calls = calls
        self._receive = receive
        self._send = send
        self._own_headers = own_headers
        self._streams = False
        self._watcher: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
        calls.enter(self)

    def end(self) -> None:
        """It is handled, and not yet answered."""
        self._calls.leave(self)
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

    async def answer(self, body: bytes) -> None:
        """Send the message that answers it."""
        send = self._send
        if self.cancelled:
            await self._begin_stream()  # some clients that leave a session look away from anything but streams
        if self._streams:
            await send({"type": "http.response.body", "body": b"event: message\r\ndata: %b\r\n\r\n" % body})
            return
        headers = [JSON_HEADER, *self._own_headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def watch(self, router: Router) -> None:
        """It takes long."""
        self._watcher = router.start_task(self._watch(), "mcp-call")

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


class DirectCalls:
    """All in flight."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._new: dict[DirectCall, None] = {}
        self._sweeper: asyncio.Task[Any] | None = None

    def enter(self, call: DirectCall) -> None:
        """A call begins."""
        self._new[call] = None
        if (self._sweeper is None or self._sweeper.done()) and self._router.tasks is not None:
            self._sweeper = self._router.start_task(self._sweep(), "mcp-calls")

    def leave(self, call: DirectCall) -> None:
        """It is handled."""
        self._new.pop(call, None)

    async def _sweep(self) -> None:
        """Until the list is empty; the next call starts another."""
        while self._new:
            old = list(self._new)
            await asyncio.sleep(SWEEP)
            for call in old:
                if call in self._new:
                    del self._new[call]
                    call.watch(self._router)
