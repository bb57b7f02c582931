"""The bus: publishers never wait, and who falls behind is told so."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from portico.kernel.bus import Bus, Published
from portico.kernel.events import EventKind, SupervisorReport
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import settle
from tests.kernel.helpers import Logged

pytestmark = pytest.mark.anyio


async def test_a_subscription_gets_what_matches_its_pattern_in_order() -> None:
    bus = Bus()
    async with bus.subscribe("process.*") as events:
        for subject in ("process.started", "message.dead_letter", "process.stopped"):
            bus.publish(subject, subject.upper())
        with anyio.fail_after(5):
            assert await anext(events) == Published("process.started", "PROCESS.STARTED", 0)
            assert await anext(events) == Published("process.stopped", "PROCESS.STOPPED", 0)


async def test_a_subscription_that_waits_is_woken() -> None:
    bus = Bus()
    with anyio.fail_after(5):
        async with bus.subscribe() as events, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(anext_of(events))
            await settle()
            assert not waiting.done()
            bus.publish("news", 1)
            assert (await waiting).data == 1


async def anext_of(events: object) -> Published:
    from portico.kernel.bus import Subscription

    assert isinstance(events, Subscription)
    return await anext(events)


async def test_a_subscription_that_falls_behind_loses_the_oldest_and_is_told_how_many() -> None:
    bus = Bus()
    with anyio.fail_after(5):
        async with bus.subscribe(buffer=2) as events:
            for number in range(5):
                bus.publish("news", number)
            assert await anext(events) == Published("news", 3, 3)
            assert await anext(events) == Published("news", 4, 0)


async def test_a_subscription_that_is_closed_ends_its_iteration_after_what_it_had() -> None:
    bus = Bus()
    events = bus.subscribe()
    bus.publish("news", 1)
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            collected: list[int] = []

            async def collect() -> None:
                collected.extend([published.data async for published in events])

            tasks.create_task(collect())
            await settle()
            events.close()
            events.close()
            bus.publish("news", 2)
        assert collected == [1]


async def test_the_runtime_publishes_what_happens_to_its_processes() -> None:
    with anyio.fail_after(5):
        runtime = Runtime(Supervisor("root", [Logged("a", [])], backoff_base=0.0))
        async with runtime.router.bus.subscribe("*") as events:
            async with runtime:
                await runtime.send("a", "crash")
                await runtime.ask("a", "hello")
            told: list[tuple[str, str]] = []
            while (EventKind.PROCESS_STOPPED, "a") not in told:
                published = await anext(events)
                if published.subject != EventKind.PROCESS_STATUS:
                    told.append((published.subject, published.data.name))
    assert told == [
        ("process.started", "a"),
        ("process.crashed", "a"),
        ("supervisor.report", "a"),
        ("message.dead_letter", "a"),
        ("process.started", "a"),
        ("process.restarted", "a"),
        ("process.stopped", "a"),
    ]


def test_a_supervisors_report_reads_as_one_line_with_its_four_fields() -> None:
    report = SupervisorReport("root", "child_terminated", "BoomError: no", "a")
    assert str(report) == "supervisor 'root': child_terminated: BoomError: no (child 'a')"
