"""EventStream: the events of one run as a response, in any form, with heartbeats, until the last one.

One loop in the request's own task, woken by whatever happens: an event, a heartbeat that is due, the drain, a client that left.
It writes only as fast as its client reads; what comes meanwhile stays in the journal, and nowhere else. Above: the routes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from portico.errors import Interrupted, PorticoError
from portico.routes.disconnects import until_left
from portico.routes.exchange import ClientLeftError, prefix, problem_of
from portico.runs.event import TERMINAL, EventName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from portico.routes.event_form import EventForm
    from portico.routes.face import Face
    from portico.runs.event import Event
    from portico.runs.run import Run

logger = logging.getLogger("portico.http")

GAP: Final = "gap"
"""Events were removed: `from`, `to`."""
DRAINING: Final = "stream.draining"
"""The gateway stops, and the run may go on: `last_event_id`."""
ERROR: Final = "error"
"""The end of a response that went wrong: the problem, as a plain one has it. A run that is only followed may well have failed."""

HELD = 0.5
"""Seconds for which the head of an ask's stream waits for a first event: what goes wrong meanwhile is a plain problem."""
CHUNK = 64 * 1024
"""Bytes after which what is ready is written, before more of it is printed."""


class EventStream:
    """One response.

    Args:
        scope: the request.
        run: whose events.
        face: of which gateway.
        form: how they look.
        after: only those with a higher number.
        asks: it is the answer to an ask: its head waits for the first event, and a gateway that drains lets it end.
        cancels: a client that leaves cancels the run.
        headers: more of the response.
    """

    __slots__ = (
        "_asks",
        "_beat",
        "_begun",
        "_cancels",
        "_face",
        "_form",
        "_headers",
        "_last",
        "_left",
        "_run",
        "_scope",
        "_send",
        "_sending",
        "_waiter",
    )

    def __init__(
        self,
        scope: Scope,
        run: Run,
        face: Face,
        form: EventForm,
        *,
        after: int = 0,
        asks: bool = False,
        cancels: bool = False,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self._scope, self._run, self._face, self._form = scope, run, face, form
        self._last = after
        self._asks, self._cancels, self._headers = asks, cancels, headers
        self._beat = self._left = self._begun = self._sending = False
        self._waiter: asyncio.Future[None] | None = None
        self._send: Send | None = None

    async def serve(self, receive: Receive, send: Send) -> None:
        """Send it, until the last event, or until the client leaves or the gateway drains.

        Raises:
            PorticoError: how the run ended, where nothing was sent yet.
            ClientLeftError: nothing was sent yet, and there is nobody any more to send it to.
        """
        self._send = send
        listener = self._face.dispatcher.runtime.router.start_task(self._listen(receive), "stream")
        try:
            if self._asks:
                await self._hold()
            self._face.streams.wrote(self)
            await self._tell_or_say_why_not()
        finally:
            self._face.streams.closed(self)
            listener.cancel()

    def ring(self) -> None:
        """See `OpenStreams`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def beat(self) -> None:
        """See `OpenStreams`."""
        self._beat = True
        self.ring()

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _listen(self, receive: Receive) -> None:
        await until_left(receive)
        self._left = True
        if self._cancels:
            self._run.cancel("Its caller went away.")
        self.ring()

    @property
    def _drained(self) -> bool:
        """Whether it is to end before its run: not where that is a plain ask, which does not outlive the gateway."""
        return self._face.drained.is_set() and not (self._asks and not self._run.stored)

    async def _rung(self, last: int) -> None:
        """Until there is something to do, such as an event after that number."""
        if self._left or self._beat or self._drained or not self._run.is_silent_after(last):
            return  # it came while the store was read
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        self._run.waken(waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            self._run.forget(waiter)

    async def _hold(self) -> None:
        """Until the run has more to tell than that it began; raises what it ended with before that."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(HELD, self._face.ping)
        timer = loop.call_at(until, self.ring)
        try:
            while loop.time() < until and not self._drained:
                more = await self._run.next_events(1)
                if self._left:
                    raise ClientLeftError
                if more or self._run.is_over_at(1):
                    if (not more or more[0].type in TERMINAL) and self._run.error is not None:
                        raise self._run.error
                    return
                await self._rung(1)
        finally:
            timer.cancel()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _tell_or_say_why_not(self) -> None:
        """Everything; what goes wrong on the way is the last that is told."""
        try:
            await self._tell()
        except asyncio.CancelledError:
            if not self._begun or self._sending:
                raise  # a client that does not read would not read this either
            await self._end(self._error(Interrupted()))
        except Exception as error:
            if not self._begun:
                raise
            if not isinstance(error, PorticoError):
                logger.exception("the stream of run %s broke off", self._run.run_id)
            await self._end(self._error(error))

    async def _tell(self) -> None:
        run, form = self._run, self._form
        await self._begin()
        while not self._left:
            more = await run.next_events(self._last)
            if more:
                if await self._write_all(more):
                    return
            elif run.is_over_at(self._last):
                await self._end()
                return
            elif self._drained:
                await self._end(form.note(DRAINING, {"last_event_id": self._last}))
                return
            elif self._beat:
                await self._write(form.ping)
            else:
                await self._rung(self._last)

    async def _begin(self) -> None:
        assert self._send is not None  # noqa: S101  # `serve` has set it
        headers = [
            (b"content-type", f"{self._form.media_type}; charset=utf-8".encode()),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"location", f"{prefix(self._scope)}/runs/{self._run.run_id}".encode("latin-1")),
        ]
        self._begun = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*headers, *self._headers]})
        await self._write(self._form.opening(self._run.run_id))

    async def _write_all(self, events: Sequence[Event]) -> bool:
        """Write events. Returns whether the last of them ended the response."""
        form, run = self._form, self._run
        text = b""
        for event in events:
            if event.seq > self._last + 1:
                text += form.note(GAP, {"from": self._last + 1, "to": event.seq - 1})
            self._last = event.seq
            if event.type in TERMINAL:
                if event.type == EventName.SUCCEEDED or run.error is None:
                    await self._end(text + form.event(event))
                else:
                    problem = problem_of(self._scope, run.error, run.run_id)
                    await self._end(text + form.ending(event, problem) + (form.note(ERROR, problem) if self._asks else b""))
                return True
            text += form.event(event)
            if len(text) > CHUNK:
                await self._write(text)
                text = b""
                if self._left:
                    return False
        if text:
            await self._write(text)
        return False

    def _error(self, error: BaseException) -> bytes:
        return self._form.note(ERROR, problem_of(self._scope, error, self._run.run_id))

    async def _write(self, chunk: bytes, *, more: bool = True) -> None:
        assert self._send is not None  # noqa: S101  # `serve` has set it
        self._beat, self._sending = False, True
        message: dict[str, Any] = {"type": "http.response.body", "body": chunk, "more_body": more}
        await self._send(message)
        self._sending = False
        self._face.streams.wrote(self)

    async def _end(self, chunk: bytes = b"") -> None:
        await self._write(chunk, more=False)
