"""The contract of the port `Clock`: a time that never goes back, a calendar, and calls that are made once, when it has come.

The suite says when time shall pass; each clock has its own way: the manual one is turned, the real one takes some milliseconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.kernel.clock import Clock, SystemClock, sleep, timeout
from portico.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.anyio

SHORT = 0.01
"""Seconds: what the real clock makes a test wait."""
RESOLUTION = 1e-6
"""Seconds by which the event loop's own timers may round."""


@dataclass(frozen=True)
class Subject:
    """A clock, and the way to let its time pass."""

    clock: Clock
    passes: Callable[[float], Awaitable[None]]
    """Let so many seconds pass, and every call be made that falls due."""


def manual() -> Subject:
    clock = ManualClock()
    return Subject(clock, clock.advance)


def system() -> Subject:
    clock = SystemClock()

    async def passes(seconds: float) -> None:
        come = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, come.set)
        await come.wait()
        await settle()

    return Subject(clock, passes)


@pytest.fixture(params=[manual, system])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    with anyio.fail_after(10):
        yield request.param()


async def test_time_passes_and_never_goes_back(subject: Subject) -> None:
    before = subject.clock.now()
    assert subject.clock.now() >= before
    await subject.passes(SHORT)
    assert subject.clock.now() - before >= SHORT - RESOLUTION


async def test_the_calendar_moves_with_the_time(subject: Subject) -> None:
    clock = subject.clock
    now, time = clock.now(), clock.time()
    await subject.passes(SHORT)
    assert clock.time() - time == pytest.approx(clock.now() - now, abs=0.5)  # the machine's may be corrected meanwhile
    assert clock.time() > time


async def test_the_calendar_is_in_our_century_and_the_same_for_another_clock(subject: Subject) -> None:
    year_2025, year_2100 = 1_735_689_600.0, 4_102_444_800.0
    assert year_2025 < subject.clock.time() < year_2100
    assert type(subject.clock)().time() == pytest.approx(subject.clock.time(), abs=5.0)


async def test_a_call_is_made_once_and_not_before_its_time(subject: Subject) -> None:
    clock, called = subject.clock, list[float]()
    when = clock.now() + SHORT
    clock.call_at(when, lambda: called.append(clock.now()))
    await settle()
    assert all(at >= when - RESOLUTION for at in called)  # the real clock may have been faster than this line
    await subject.passes(SHORT * 2)
    await subject.passes(SHORT * 2)
    assert len(called) == 1
    assert called[0] >= when - RESOLUTION


async def test_a_call_that_is_due_much_later_is_not_made_yet(subject: Subject) -> None:
    called: list[str] = []
    timer = subject.clock.call_at(subject.clock.now() + 3600.0, lambda: called.append("early"))
    await subject.passes(SHORT)
    timer.cancel()
    assert called == []


async def test_a_call_is_never_made_by_the_one_who_asks_for_it(subject: Subject) -> None:
    called: list[str] = []
    subject.clock.call_at(subject.clock.now() - 1.0, lambda: called.append("past"))
    subject.clock.call_at(subject.clock.now(), lambda: called.append("now"))
    assert called == []
    await subject.passes(SHORT)
    assert sorted(called) == ["now", "past"]


async def test_calls_are_made_in_the_order_of_their_times(subject: Subject) -> None:
    start, called = subject.clock.now(), list[int]()
    for number in (3, 1, 2):
        subject.clock.call_at(start + SHORT * number, lambda number=number: called.append(number))
    await subject.passes(SHORT * 4)
    assert called == [1, 2, 3]


async def test_a_cancelled_call_is_not_made_and_the_others_are(subject: Subject) -> None:
    start, called = subject.clock.now(), list[str]()
    subject.clock.call_at(start + SHORT, lambda: called.append("never")).cancel()
    subject.clock.call_at(start + SHORT, lambda: called.append("made"))
    await subject.passes(SHORT * 2)
    assert called == ["made"]


async def test_cancelling_does_no_harm_when_the_call_was_made_or_cancelled_already(subject: Subject) -> None:
    called: list[str] = []
    made = subject.clock.call_at(subject.clock.now(), lambda: called.append("made"))
    cancelled = subject.clock.call_at(subject.clock.now(), lambda: called.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    await subject.passes(SHORT)
    made.cancel()
    cancelled.cancel()
    await subject.passes(SHORT)
    assert called == ["made"]


async def test_a_call_may_cancel_another_one_and_ask_for_a_later_one(subject: Subject) -> None:
    clock, start, called = subject.clock, subject.clock.now(), list[str]()
    doomed = clock.call_at(start + SHORT * 2, lambda: called.append("doomed"))

    def first() -> None:
        called.append("first")
        doomed.cancel()
        clock.call_at(start + SHORT * 3, lambda: called.append("later"))

    clock.call_at(start + SHORT, first)
    await subject.passes(SHORT * 4)
    assert called == ["first", "later"]


async def test_calls_are_made_on_the_event_loop_that_asked(subject: Subject) -> None:
    seen: list[Any] = []
    subject.clock.call_at(subject.clock.now(), lambda: seen.append(asyncio.get_running_loop()))
    await subject.passes(SHORT)
    assert seen == [asyncio.get_running_loop()]


async def test_a_sleep_on_the_clock_ends_when_its_time_has_come(subject: Subject) -> None:
    clock, before, woke = subject.clock, subject.clock.now(), list[float]()

    async def sleeper() -> None:
        await sleep(clock, SHORT)
        woke.append(clock.now())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        await subject.passes(SHORT * 2)
    assert woke[0] - before >= SHORT - RESOLUTION


# --- a limit for a body -----------------------------------------------------------------------------------------------


async def never() -> None:
    """Wait for what does not come."""
    await asyncio.get_running_loop().create_future()


async def test_a_body_that_takes_longer_than_its_limit_is_cancelled_and_that_is_a_timeout_error(subject: Subject) -> None:
    clock, before, ended = subject.clock, subject.clock.now(), list[Any]()

    async def body() -> None:
        try:
            async with timeout(clock, SHORT):
                try:
                    await never()
                except asyncio.CancelledError:
                    ended.append(clock.now())
                    raise
        except TimeoutError as error:
            task = asyncio.current_task()
            ended.append((type(error.__cause__), task.cancelling() if task is not None else None))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(body())
        await subject.passes(SHORT * 2)
    assert ended[0] - before >= SHORT - RESOLUTION
    assert ended[1:] == [(asyncio.CancelledError, 0)]  # and nothing of it is left in the task


@pytest.mark.parametrize("limit", [3600.0, None])
async def test_a_body_within_its_limit_or_without_one_is_left_alone(subject: Subject, limit: float | None) -> None:
    done = asyncio.Event()

    async def body() -> str:
        async with timeout(subject.clock, limit):
            await done.wait()
        return "done"

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(body())
        await subject.passes(SHORT)
        done.set()
    assert task.result() == "done"


async def test_a_limit_that_is_left_in_time_cancels_nothing_later(subject: Subject) -> None:
    async with timeout(subject.clock, SHORT):
        pass
    await subject.passes(SHORT * 2)
    assert getattr(subject.clock, "pending", 0) == 0


async def test_an_error_of_the_body_goes_on_as_it_is(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError):
        async with timeout(subject.clock, SHORT):
            raise ZeroDivisionError

    async def stumbling() -> None:
        async with timeout(subject.clock, SHORT):
            try:
                await never()
            finally:
                raise ZeroDivisionError

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outcome(stumbling()))
        await subject.passes(SHORT * 2)
    assert task.result() == (ZeroDivisionError, 0)


async def outcome(body: Awaitable[object]) -> tuple[type[BaseException] | None, int]:
    """How a body ended, and how many cancellations its task still has to answer."""
    ended: type[BaseException] | None = None
    try:
        await body
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  # whatever it was
        ended = type(error)
    task = asyncio.current_task()
    assert task is not None
    return ended, task.cancelling()


async def test_a_cancellation_from_outside_goes_on(subject: Subject) -> None:
    async def limited() -> None:
        async with timeout(subject.clock, 3600.0):
            await never()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outcome(limited()))
        await settle()
        task.cancel()
    assert task.result() == (asyncio.CancelledError, 1)


@pytest.mark.parametrize("first", ["outside", "timer"])
async def test_a_cancellation_from_outside_wins_over_the_limit_whichever_came_first(subject: Subject, first: str) -> None:
    async def limited() -> None:
        async with timeout(subject.clock, SHORT):
            try:
                await never()
            finally:
                cleaning.set()
                await released.wait()

    cleaning, released = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outcome(limited()))
        await settle()
        if first == "outside":
            task.cancel()
            await cleaning.wait()
        await subject.passes(SHORT * 2)
        if first == "timer":
            await cleaning.wait()
            task.cancel()
        released.set()
    assert task.result() == (asyncio.CancelledError, 1)


async def test_the_clean_up_of_a_cancelled_task_can_have_a_limit_of_its_own(subject: Subject) -> None:
    ended: list[type[BaseException] | None] = []

    async def tidy() -> None:
        try:
            await never()
        finally:
            ended.append((await outcome(limited()))[0])

    async def limited() -> None:
        async with timeout(subject.clock, SHORT):
            await never()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(outcome(tidy()))
        await settle()
        task.cancel()
        await subject.passes(SHORT * 2)
    assert ended == [TimeoutError]
    assert task.result() == (asyncio.CancelledError, 1)


@pytest.mark.parametrize(
    ("inner", "outer", "expired"), [(SHORT, 3600.0, "inner"), (3600.0, SHORT, "outer"), (SHORT, SHORT, "outer")]
)
async def test_of_two_limits_the_one_that_expires_ends_its_own_body(
    subject: Subject, inner: float, outer: float, expired: str
) -> None:
    told: list[str] = []

    async def nested() -> None:
        try:
            async with timeout(subject.clock, outer):
                try:
                    async with timeout(subject.clock, inner):
                        await never()
                except TimeoutError:
                    told.append("inner")
        except TimeoutError:
            told.append("outer")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(nested())
        await subject.passes(SHORT * 4)
    assert told == [expired]
