"""Deliverer: tells who asked for it of the ends of runs, now and again until they have heard. One for each gateway.

What is to be told is stored with the run, and its time; this only looks when that has come. So an attempt that the end of the
program cuts short is made again by the next one: a receiver may hear of the same end twice, and knows it by its id. Above: the
routes, and the application, whose lifespan it runs in. Below: the book of runs, and the sender.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import ExitStack, asynccontextmanager
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import httpx

from portico.errors import NotRedeliverable, PorticoError, UnknownRun
from portico.kernel import hooks
from portico.kernel.clock import sleep
from portico.runs.callback import CallbackStatus
from portico.runs.printing import printed
from portico.runs.run_view import printable_view, rfc3339
from portico.runs.store import StoreCallback
from portico.webhooks.attempt import Attempt
from portico.webhooks.fair_line import FairLine
from portico.webhooks.guard import ClosedError, Guard
from portico.webhooks.schedule import afresh, after
from portico.webhooks.sender import Outcome, Sender
from portico.webhooks.signature import secrets_of, sign

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Sequence

    from portico.kernel.clock import Timer
    from portico.runs.book import RunBook
    from portico.runs.callback import Callback
    from portico.runs.run import Run
    from portico.webhooks.attempt import WatchesAttempts

logger = logging.getLogger("portico.webhooks")

AT_ONCE: Final = 32
"""How many callbacks are under way at once."""
OF_ONE_HOST: Final = 4
"""How many of them go to one host."""
AGAIN_AFTER: Final = 1.0
"""Seconds after which is tried again what the store could not read or keep."""
EARLY: Final = 0.001
"""Seconds by which a timer may be early."""
UNSIGNED: Final = "This gateway has no secret to sign callbacks with: its operator sets callback_secret (PORTICO_CALLBACK_SECRET)."


class Deliverer:
    """See the module.

    Args:
        book: whose runs.
        secret: `whsec_…`, or several with commas between them; None where no callback is taken or sent.
        guard: where callbacks may go; None for the open Internet alone.
        verify: the certificate authorities; None for those that httpx knows.
        observers: who is told of each attempt.

    Raises:
        ValueError: a secret that is none.
    """

    def __init__(
        self,
        book: RunBook,
        secret: str | None,
        guard: Guard | None = None,
        *,
        verify: ssl.SSLContext | None = None,
        observers: Sequence[WatchesAttempts] = (),
    ) -> None:
        self._observers = observers
        self._book = book
        self._clock = book.clock
        self._secrets = secrets_of(secret) if secret is not None else ()
        self._guard = guard or Guard()
        self._sender = Sender(self._guard, book.clock, verify=verify)
        self._line = FairLine(AT_ONCE, OF_ONE_HOST)
        self._due: dict[str, tuple[float, str]] = {}
        """When and to which host, by run: those whose time has not come."""
        self._times: list[tuple[float, str]] = []
        """The same as a heap, with runs that have another time by now."""
        self._changed = asyncio.Event()
        self._timer: Timer | None = None

    # --- what faces ask for -------------------------------------------------------------------------------------------

    def check(self, url: str) -> None:
        """Raises `ClosedError` where no callback can be sent there: it is no address or a closed one, or nothing can be signed."""
        if not self._secrets:
            raise ClosedError(UNSIGNED)
        self._guard.check(url)

    async def redeliver(self, run: Run) -> None:
        """Send a callback again, from the first attempt on, whatever became of it.

        Raises:
            NotRedeliverable: the run has none, or has not ended, or there is no secret to sign with.
            StoreUnavailable: that could not be stored.
        """
        callback = run.record.callback if run.record is not None else None
        if callback is None:
            raise NotRedeliverable(run.run_id, "it has no callback.")
        if not run.done:
            raise NotRedeliverable(run.run_id, "it has not ended.")
        if not self._secrets:
            raise NotRedeliverable(run.run_id, UNSIGNED)
        again = afresh(callback, self._clock.time())
        await self._book.keep(StoreCallback(run.run_id, again))
        self._note(run.run_id, again)

    # --- its life -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Send what is due, as long as this is open. What is under way at its end is made again by the next one."""
        self._book.on_callback.append(self._note)  # before the store is read, so that no end is missed
        try:
            async with asyncio.TaskGroup() as group:
                working = group.create_task(self._work())
                try:
                    yield
                finally:
                    working.cancel()
        finally:
            self._book.on_callback.remove(self._note)
            if self._timer is not None:
                self._timer.cancel()

    async def _take_up(self) -> None:
        """Note what an earlier life of the program has left. Nobody's start waits for that."""
        while True:
            try:
                found = await self._book.store.callbacks()
            except PorticoError as error:
                logger.error("the callbacks that wait could not be read: %s", error)  # noqa: TRY400  # one line says it all
                await sleep(self._clock, AGAIN_AFTER)
            else:
                break
        for run_id, callback in found:
            self._note(run_id, callback)
        if found and not self._secrets:
            logger.warning("%d callbacks wait: set PORTICO_CALLBACK_SECRET, with which they are signed", len(found))

    def _note(self, run_id: str, callback: Callback) -> None:
        """A callback is due, now or later."""
        if callback.next_at is not None and self._secrets:
            self._put(callback.next_at, httpx.URL(callback.url).host, run_id)

    def _put(self, at: float, host: str, run_id: str) -> None:
        self._due[run_id] = (at, host)
        heappush(self._times, (at, run_id))
        self._changed.set()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_up())
            while True:
                self._changed.clear()
                self._move_up()
                while (taken := self._line.take()) is not None:
                    group.create_task(self._attempt(*taken))
                await self._changed.wait()

    def _move_up(self) -> None:
        """Let those stand in line whose time has come, and be woken when that of the next one does."""
        now = self._clock.time()
        while self._times and self._times[0][0] <= now + EARLY:
            at, run_id = heappop(self._times)
            if run_id in self._due and self._due[run_id][0] == at:
                self._line.put(self._due.pop(run_id)[1], run_id)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._times:
            self._timer = self._clock.call_at(self._clock.now() + self._times[0][0] - now, self._changed.set)

    # --- one attempt --------------------------------------------------------------------------------------------------

    async def _attempt(self, host: str, run_id: str) -> None:
        try:
            if run_id in self._book.calling_back:  # by another gateway of this runtime, or by this one: it was asked for again
                self._put(self._clock.time() + AGAIN_AFTER, host, run_id)
                return
            self._book.calling_back.add(run_id)
            try:
                await self._tell(run_id)
            finally:
                self._book.calling_back.discard(run_id)
        finally:
            self._line.done(host)
            self._changed.set()

    async def _tell(self, run_id: str) -> None:
        run = await self._read(run_id)
        callback = run.record.callback if run is not None and run.record is not None else None
        if (
            run is None or not run.done or callback is None or callback.next_at is None
        ):  # removed meanwhile, or told by another gateway
            return
        if callback.next_at > self._clock.time() + EARLY:
            self._note(run_id, callback)
            return
        outcome = await self._send(run, callback)
        told = after(callback, outcome, self._clock.time(), random.random())  # noqa: S311  # jitter
        if told.status is CallbackStatus.FAILED:
            logger.error("nobody was told of the end of run %s, after %d attempts: %s", run_id, told.attempts, told.last_error)
        await self._keep(run_id, told)
        self._note(run_id, told)

    async def _send(self, run: Run, callback: Callback) -> Outcome:
        try:
            body = printed(message_of(run))
            headers = sign(self._secrets, f"msg_{run.run_id}", int(self._clock.time()), body)
            if not self._observers:
                return await self._sender.send(callback.url, headers, body)
            traceparent = run.record.traceparent if run.record is not None else None
            attempt = Attempt(run.run_id, run.agent, callback.url, callback.attempts, traceparent)
            with ExitStack() as stack:
                for observer in self._observers:
                    traceparent = hooks.enter(stack, observer.calling_back, attempt) or traceparent
                if traceparent is not None:
                    headers = {**headers, "traceparent": traceparent}
                attempt.outcome = await self._sender.send(callback.url, headers, body)
                return attempt.outcome
        except Exception:  # the border: one that cannot be sent takes neither the others nor the gateway along
            logger.exception("the callback of run %s could not be sent", run.run_id)
            return Outcome(error="It could not be sent. The gateway's log has the reason.")

    async def _read(self, run_id: str) -> Run | None:
        while True:
            try:
                return await self._book.find(run_id, None, everyone=True)
            except UnknownRun:
                logger.warning("nobody is told of the end of run %s: it is kept no more", run_id)
                return None
            except PorticoError as error:
                logger.error("run %s could not be read, and is tried again: %s", run_id, error)  # noqa: TRY400  # one line says it all
            await sleep(self._clock, AGAIN_AFTER)

    async def _keep(self, run_id: str, callback: Callback) -> None:
        """Store what came of an attempt, however long that takes: it would be made again."""
        while True:
            try:
                await self._book.keep(StoreCallback(run_id, callback))
            except PorticoError as error:
                if await self._read(run_id) is None:
                    return
                logger.error("what came of the callback of run %s could not be stored: %s", run_id, error)  # noqa: TRY400  # see above
                await sleep(self._clock, AGAIN_AFTER)
            else:
                return


def message_of(run: Run) -> dict[str, Any]:
    """What is told of a run that has ended: its record as `GET /runs/{id}` has it, in the form of Standard Webhooks."""
    return {
        "type": f"run.{run.status}",
        "timestamp": rfc3339(run.finished or 0.0),
        "data": printable_view(run),
    }
