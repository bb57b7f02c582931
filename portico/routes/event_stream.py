"""EventStream: the events of one run as a response, in any form, until the last one.

What comes while its client does not read stays in the journal, and nowhere else. Above: the routes. Below: `OpenResponse`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from portico.routes.exchange import ClientLeftError, prefix, problem_of
from portico.routes.open_response import CHUNK, DRAINING, ERROR, GAP, OpenResponse
from portico.runs.event import TERMINAL, EventName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope

    from portico.routes.event_form import EventForm
    from portico.routes.face import Face
    from portico.runs.event import Event
    from portico.runs.run import Run

HELD: Final = 0.5
"""Seconds for which the head of an ask's stream waits for a first event: what goes wrong meanwhile is a plain problem."""


class EventStream(OpenResponse):
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

    __slots__ = ("_asks", "_cancels", "_headers", "_last", "_run")

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
        super().__init__(scope, face, form, run.run_id)
        self._run = run
        self._last = after
        self._asks, self._cancels, self._headers = asks, cancels, headers

    # --- waiting ------------------------------------------------------------------------------------------------------

    async def _before(self) -> None:
        if self._asks:
            await self._hold()

    def _on_leave(self) -> None:
        if self._cancels:
            self._run.cancel("Its caller went away.")

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

    async def _tell(self) -> None:
        run, form = self._run, self._form
        location = f"{prefix(self._scope)}/runs/{run.run_id}".encode("latin-1")
        await self._begin([(b"location", location), *self._headers])
        await self._write(form.opening(run.run_id))
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
