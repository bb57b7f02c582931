"""Estimates: who is refused because what waits would take too long, and what a full mailbox does in a flood."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import CallError, DeadlineUnreachable, MailboxFull
from portico.kernel.delivery import Delivery
from portico.kernel.keyed import keyed
from portico.kernel.mailbox import Mailbox
from portico.kernel.messages import DEFAULT_TYPE, Message
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class Worker(AgentProcess):
    """Works for as many seconds as it is told."""

    async def handle(self, message: Message) -> Any:
        seconds = message.payload["seconds"]
        if seconds:
            await self.sleep(seconds)
        return seconds


class Scene:
    """A worker and those who ask it, on a clock that stands still between two of them."""

    def __init__(self, *, strict: bool = False, behind_keys: bool = False) -> None:
        self.clock = ManualClock()
        worker = keyed(Worker, "worker", per_key="key") if behind_keys else Worker("worker")
        self.runtime = Runtime(Supervisor("root", [worker]), clock=self.clock, strict=strict)

    async def work(self, seconds: float, times: int = 1) -> None:
        """One handling after another, each of which takes so long."""
        for _ in range(times):
            asked = self.ask(seconds, timeout=10_000.0)
            await self.clock.advance(seconds)
            await asked

    def ask(self, seconds: float, timeout: float) -> asyncio.Task[Any]:
        return self.callers.create_task(self.outcome(seconds, timeout))

    async def outcome(self, seconds: float, timeout: float) -> Any:
        try:
            return (await self.runtime.ask("worker", {"key": "k", "seconds": seconds}, timeout=timeout)).payload
        except CallError as error:
            return error

    async def play(self) -> AsyncGenerator[Scene]:
        with anyio.fail_after(10):
            async with self.runtime, asyncio.TaskGroup() as self.callers:
                yield self


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async for played in Scene().play():
        yield played


async def test_one_slow_handling_among_quick_ones_refuses_nobody_who_has_room(scene: Scene) -> None:
    await scene.work(0.0, times=20)
    await scene.work(10.0)
    asked = [scene.ask(0.0, timeout=10.0) for _ in range(6)]
    await settle()
    assert [await ask for ask in asked] == [0.0] * 6


async def test_who_is_slow_throughout_refuses_what_cannot_meet_its_deadline(scene: Scene) -> None:
    await scene.work(10.0, times=3)
    asked = [scene.ask(10.0, timeout=1000.0) for _ in range(4)]
    await settle()
    hopeless, patient = scene.ask(10.0, timeout=20.0), scene.ask(10.0, timeout=60.0)
    await settle()
    assert isinstance(await hopeless, DeadlineUnreachable)
    await scene.clock.advance(60.0)
    assert [await ask for ask in [*asked, patient]] == [10.0] * 5


async def test_who_has_become_quick_again_refuses_nobody(scene: Scene) -> None:
    await scene.work(10.0, times=3)
    await scene.work(0.0, times=100)
    asked = [scene.ask(0.0, timeout=0.1) for _ in range(100)]
    await settle()
    assert [await ask for ask in asked] == [0.0] * 100


@pytest.mark.parametrize("options", [{}, {"strict": True}, {"behind_keys": True}, {"behind_keys": True, "strict": True}])
async def test_a_send_that_may_grow_old_is_never_refused_for_that(options: dict[str, bool]) -> None:
    async for scene in Scene(**options).play():
        await scene.work(10.0, times=3)
        asked = [scene.ask(10.0, timeout=1000.0) for _ in range(3)]
        await settle()
        await scene.runtime.send("worker", {"key": "k", "seconds": 0.0}, ttl=1.0)
        assert isinstance(await scene.outcome(10.0, timeout=1.0), DeadlineUnreachable)
        await scene.clock.advance(30.0)
        assert [await ask for ask in asked] == [10.0] * 3


# --- floods -----------------------------------------------------------------------------------------------------------


class Counted(Delivery):
    """Counts, for all of them, how often somebody looks whether one is finished."""

    looks = 0

    @property
    def finished(self) -> bool:
        Counted.looks += 1
        return super().finished


class Handled:
    """Hears of handlings."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def handled(self, mailbox: Mailbox, message_type: str, seconds: float) -> None:
        del mailbox, message_type
        self.seconds.append(seconds)


async def test_what_was_out_of_date_before_it_was_handled_is_no_handling() -> None:
    scene, meter = Scene(), Handled()
    scene.runtime.services.meters.append(meter)
    async for _ in scene.play():
        first = scene.ask(10.0, timeout=100.0)
        await settle()
        await scene.runtime.send("worker", {"seconds": 0}, ttl=1.0)
        await scene.clock.advance(10.0)
        await first
        await settle()
        box = scene.runtime.registry.lookup("worker")
        assert (box.expired, box.service_time) == (1, 10.0)
    assert meter.seconds == [10.0]


@pytest.mark.parametrize("what", ["suspend", "resume", "restart", "stop"])
async def test_a_handling_during_which_something_comes_to_attend_to_is_told_too(what: str) -> None:
    scene, meter = Scene(), Handled()
    scene.runtime.services.meters.append(meter)
    async for _ in scene.play():
        first = scene.ask(2.0, timeout=100.0)
        await settle()
        if what in ("suspend", "resume"):
            await scene.runtime.suspend("worker")
        if what == "resume":
            await scene.runtime.resume("worker")
        async with asyncio.TaskGroup() as group:
            if what == "restart":
                group.create_task(scene.runtime.restart_agent("worker"))
            if what == "stop":
                group.create_task(scene.runtime.stop())
            await settle()
            await scene.clock.advance(2.0)
            assert await first == 2.0
        await settle()
        assert meter.seconds == [2.0]


def full_mailbox(size: int) -> Mailbox:
    mailbox = Mailbox("mailbox", size)
    for _ in range(size):
        mailbox.put(Counted(Message(DEFAULT_TYPE)))
    Counted.looks = 0
    return mailbox


def test_in_a_flood_a_full_mailbox_is_looked_through_once_in_sixty_four_refusals() -> None:
    mailbox = full_mailbox(100)
    for _ in range(640):
        with pytest.raises(MailboxFull):
            mailbox.put(Counted(Message(DEFAULT_TYPE)))
    assert 0 < Counted.looks <= 11 * 100


def test_a_full_mailbox_takes_more_as_soon_as_nobody_waits_for_what_is_in_it() -> None:
    mailbox = full_mailbox(100)
    mailbox.waiting[50].fail(MailboxFull("mailbox", 100, 1.0))
    mailbox.put(Counted(Message(DEFAULT_TYPE)))
    assert len(mailbox) == 100


def test_in_a_flood_too_those_whom_nobody_waits_for_make_room() -> None:
    mailbox = full_mailbox(100)
    for _ in range(10):
        with pytest.raises(MailboxFull):
            mailbox.put(Counted(Message(DEFAULT_TYPE)))
    for left in list(mailbox.waiting)[:30]:
        left.fail(MailboxFull("mailbox", 100, 1.0))
    taken = 0
    for _ in range(64):
        with suppress(MailboxFull):
            mailbox.put(Counted(Message(DEFAULT_TYPE)))
            taken += 1
    assert 0 < taken <= 30
    assert len(mailbox) == 70 + taken
