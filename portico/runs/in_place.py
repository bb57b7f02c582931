"""InPlace: a run waits for an answer while its handler stays where it is, since what asked (a call to another server) is under way.

`ctx.wait_input` lets go of the agent and comes back from the beginning; here that cannot be: the agent is held up meanwhile, and an
end of the program ends the wait. So nothing of it is stored but its events. Above: `Execution.wait_here`.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from portico.errors import InputTimeout
from portico.kernel.clock import timeout as time_limit
from portico.kernel.protocols import REQUIRED
from portico.runs import waiting
from portico.runs.event import EventName
from portico.runs.status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from portico.kernel.delivery import Delivery
    from portico.kernel.questions import Question
    from portico.runs.book import RunBook
    from portico.runs.run import Run

KEY = "here"
"""In place of the key of a step: nothing is kept under it."""


async def wait_here(book: RunBook, run: Run, deliveries: Sequence[Delivery], asked: Question, *, limit: float | None) -> Any:
    """The answer that somebody gives. Several waits of one run come one after the other.

    Args:
        book: whose clock and deadlines count.
        run: who waits.
        deliveries: what is in hand meanwhile: its deadline stands still.
        asked: what is asked.
        limit: seconds; None for any time.

    Raises:
        InputTimeout: nobody answered in time.
        InputDeclined: whoever was asked declined.
        InvalidOperation: the schema is none.
    """
    until = None if limit is None else book.clock.time() + limit
    waits_for = waiting.for_input(KEY, asked, until, REQUIRED)
    try:
        async with time_limit(book.clock, limit):
            await _turn(run)
            answer = run.in_place = asyncio.get_running_loop().create_future()
            with _waiting(book, run, deliveries, waits_for):
                stored = await answer
    except TimeoutError:
        raise InputTimeout(asked.prompt) from None
    return waiting.answer_of(stored, asked.prompt, asked.schema)


async def _turn(run: Run) -> None:
    """Until no other wait of the run is open."""
    while run.in_place is not None:
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run.waken(changed)
        try:
            await changed
        finally:
            run.forget(changed)


@contextmanager
def _waiting(book: RunBook, run: Run, deliveries: Sequence[Delivery], waits_for: Mapping[str, Any]) -> Generator[None]:
    answer, began = run.in_place, book.clock.now()
    run.waiting, run.check = waits_for, None
    watched = [delivery for delivery in deliveries if delivery.bucket is not None]
    for delivery in watched:
        book.stop_the_clock(delivery)
    run.tell(EventName.WAITING, {key: waits_for[key] for key in ("prompt", "schema", "until")})
    if run.stored:
        run.move(RunStatus.WAITING)
    try:
        yield
    finally:
        run.waiting = run.in_place = None
        if not run.done:
            stored: dict[str, Any] = answer.result() if answer is not None and answer.done() and not answer.cancelled() else {}
            run.tell(EventName.RESUMED, {"answered": "value" in stored})
            if run.stored and run.status is RunStatus.WAITING:
                run.move(RunStatus.QUEUED)
                run.move(RunStatus.RUNNING)
        run.stirred()
        for delivery in watched:
            if not delivery.finished:
                book.go_on_with_the_clock(delivery, book.clock.now() - began)
