"""The contract of the port `Clock`: a time that never goes back, and calls that are made once, when it has come.

The suite says when time shall pass; each clock has its own way: the manual one is turned, the real one takes some milliseconds.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.kernel.clock import Clock, SystemClock, sleep
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
