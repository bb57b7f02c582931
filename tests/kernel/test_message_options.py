"""What a message may say of itself: priority, time to live, deadline; and to whom it may go."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import CallError, DeadlineUnreachable, MailboxFull, ReservedType, SelfAsk
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.messages import Message
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Witness, agent

if TYPE_CHECKING:
    from collections.abc import Coroutine

pytestmark = pytest.mark.anyio


class Gated(AgentProcess):
    """Holds the payload `hold` until the test opens the gate; writes down everything else, in order."""

    def __init__(self, name: str, log: list[Any], gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log
        self.gate = gate

    async def handle(self, message: Message) -> Any:
        if message.payload == "hold":
            await self.gate.wait()
        else:
            self.log.append(message.payload)
        return self.id


class Slow(AgentProcess):
    """Takes as many seconds of the runtime's clock as its message says."""

    async def handle(self, message: Message) -> Any:
        if message.payload:
            await self.sleep(message.payload)
        return message.payload


def quick(*children: AgentProcess | Supervisor, **options: Any) -> Supervisor:
    return Supervisor("root", list(children), backoff_base=0.0, **options)


async def outcome(doing: Coroutine[Any, Any, Message]) -> Any:
    try:
        return (await doing).payload
    except CallError as error:
        return type(error).__name__


async def hold(runtime: Runtime, name: str = "g") -> None:
    await runtime.send(name, "hold")
    await settle()


# --- priority ---------------------------------------------------------------------------------------------------------


async def test_a_higher_priority_is_handled_first_and_the_same_one_in_order() -> None:
    log, gate = list[Any](), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate))) as runtime:
            await hold(runtime)
            for number, priority in enumerate([0, 5, 0, 1, 5, 9, 1]):
                await runtime.send("g", (priority, number), priority=priority)
            gate.set()
            await settle()
    assert log == [(9, 5), (5, 1), (5, 4), (1, 3), (1, 6), (0, 0), (0, 2)]


async def test_an_ask_has_a_priority_too_from_outside_and_from_a_handler() -> None:
    log, gate = list[Any](), asyncio.Event()

    class Middle(AgentProcess):
        async def handle(self, message: Message) -> Any:
            await self.send("g", "send 2", priority=2)
            return (await self.ask("g", "ask 3", priority=3)).payload

    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate), Middle("m"))) as runtime, asyncio.TaskGroup() as callers:
            await hold(runtime)
            asks = [
                callers.create_task(runtime.ask("g", "ask 0")),
                callers.create_task(runtime.ask("g", "ask 1", priority=1)),
                callers.create_task(runtime.ask("m", 1)),
            ]
            await settle()
            gate.set()
            for ask in asks:
                await ask
    assert log == ["ask 3", "send 2", "ask 1", "ask 0"]


async def test_a_lower_priority_than_usual_is_handled_last() -> None:
    log, gate = list[Any](), asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate))) as runtime:
            await hold(runtime)
            for priority in (-1, 0, -5, 1, 0):
                await runtime.send("g", priority, priority=priority)
            gate.set()
            await settle()
    assert log == [1, 0, 0, -1, -5]


async def test_priorities_do_not_cross_a_crash_of_what_is_in_hand() -> None:
    log = list[Any]()

    class Crashing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            log.append((message.payload, message.attempt))
            if message.payload == "first" and message.attempt == 0:
                await settle()
                raise BoomError
            return message.payload

    with anyio.fail_after(5):
        async with Runtime(quick(Crashing("c"))) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(runtime.ask("c", "first"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await runtime.send("c", "urgent", priority=9)
            await settle()
    assert log == [("first", 0), ("first", 1), ("urgent", 0)]


# --- ttl --------------------------------------------------------------------------------------------------------------


async def test_a_send_whose_time_is_over_before_it_is_handled_is_dropped_counted_and_told() -> None:
    log, gate, witness = list[Any](), asyncio.Event(), Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate)), observers=[witness]) as runtime:
            await hold(runtime)
            await runtime.send("g", "over", ttl=0.0)
            await runtime.send("g", "in time", ttl=60.0)
            await runtime.send("g", "for ever")
            gate.set()
            await settle()
            assert log == ["in time", "for ever"]
            assert runtime.router.registry.lookup("g").expired == 1
            assert runtime.router.registry.lookup("g").snapshot()["expired"] == 1
            (event,) = witness.of(EventKind.MESSAGE_EXPIRED)
            assert (event.name, event.data["message"].payload) == ("g", "over")
            assert witness.of(EventKind.DEAD_LETTER) == []


async def test_a_ttl_counts_from_when_the_message_was_made() -> None:
    log, gate, witness = list[Any](), asyncio.Event(), Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate)), observers=[witness]) as runtime:
            for payload, age in (("old", 10.0), ("young", 1.0)):
                message = Message("message", payload, recipient="g", timestamp=time.time() - age, ttl=5.0)
                runtime.router.deliver(Delivery(message, None, None, one_way=True))
            await settle()
            assert log == ["young"]
            assert [event.data["message"].payload for event in witness.of(EventKind.MESSAGE_EXPIRED)] == ["old"]


async def test_a_ttl_goes_by_the_runtimes_clock() -> None:
    log, gate, clock = list[Any](), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate)), clock=clock) as runtime:
            await hold(runtime)
            await runtime.send("g", "short", ttl=5.0)
            await runtime.send("g", "long", ttl=50.0)
            await clock.advance(6.0)
            gate.set()
            await settle()
            assert log == ["long"]
            assert runtime.router.registry.lookup("g").expired == 1


async def test_a_process_gives_its_sends_a_ttl_too() -> None:
    log, gate, witness = list[Any](), asyncio.Event(), Witness()

    class Middle(AgentProcess):
        async def handle(self, message: Message) -> Any:
            await self.send("g", "over", ttl=0.0)
            await self.send("g", "in time", ttl=60.0)
            return None

    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate), Middle("m")), observers=[witness]) as runtime:
            await hold(runtime)
            await runtime.send("m", 1)
            await settle()
            gate.set()
            await settle()
    assert log == ["in time"]
    assert witness.names(EventKind.MESSAGE_EXPIRED) == ["g"]


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_an_ask_that_expires_while_it_waits_is_never_handled_and_counted_once() -> None:
    log, gate, clock, witness = list[Any](), asyncio.Event(), ManualClock(), Witness()
    with anyio.fail_after(5):
        async with (
            Runtime(quick(Gated("g", log, gate)), clock=clock, observers=[witness]) as runtime,
            asyncio.TaskGroup() as callers,
        ):
            await hold(runtime)
            short = callers.create_task(outcome(runtime.ask("g", "short", timeout=2.0)))
            long = callers.create_task(outcome(runtime.ask("g", "long", timeout=20.0)))
            await clock.advance(3.0)
            assert short.result() == "DeadlineExceeded"
            gate.set()
            assert await long == "g#1"
            assert log == ["long"]
            assert runtime.router.registry.lookup("g").expired == 1
            assert [event.data["message"].payload for event in witness.of(EventKind.MESSAGE_EXPIRED)] == ["short"]


async def test_an_ask_that_expires_while_it_is_handled_is_not_counted_as_expired() -> None:
    clock, witness = ManualClock(), Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock, observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(outcome(runtime.ask("s", 10.0, timeout=2.0)))
            await clock.advance(3.0)
            assert ask.result() == "DeadlineExceeded"
            assert runtime.router.registry.lookup("s").expired == 0
            assert witness.of(EventKind.MESSAGE_EXPIRED) == []


class Remaining(AgentProcess):
    """Tells how long it has."""

    async def handle(self, message: Message) -> Any:
        return self.context.remaining()


class Through(AgentProcess):
    """Takes a while, then asks another with a deadline of its own."""

    def __init__(self, name: str, other: str, takes: float, timeout: float = 1000.0) -> None:
        super().__init__(name)
        self.other = other
        self.takes = takes
        self.timeout = timeout

    async def handle(self, message: Message) -> Any:
        await self.sleep(self.takes)
        return (await self.ask(self.other, None, timeout=self.timeout)).payload


async def test_nested_asks_have_what_is_left_of_the_deadline() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        root = quick(Remaining("r"), Through("b", "r", 3.0), Through("a", "b", 2.0))
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            ask = callers.create_task(runtime.ask("a", None, timeout=30.0))
            await clock.advance(5.0)
            assert (await ask).payload == pytest.approx(25.0)


async def test_a_nested_ask_may_have_a_shorter_deadline_of_its_own_never_a_longer_one() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        root = quick(Remaining("r"), Through("short", "r", 0.0, 4.0), Through("long", "r", 0.0, 400.0))
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.ask(name, None, timeout=30.0)) for name in ("short", "long")]
            await clock.advance(0.0)
            assert [(await ask).payload for ask in asks] == [pytest.approx(4.0), pytest.approx(30.0)]


async def test_across_two_runtimes_with_different_clocks_the_remaining_time_is_what_counts() -> None:
    here, there = ManualClock(1_000.0), ManualClock(5_000_000.0)

    class Bridge(AgentProcess):
        def __init__(self, name: str, other: Runtime) -> None:
            super().__init__(name)
            self.other = other

        async def handle(self, message: Message) -> Any:
            await self.sleep(3.0)
            return (await self.other.ask(message.payload, 60.0, timeout=1000.0)).payload

    with anyio.fail_after(5):
        async with (
            Runtime(quick(Remaining("r"), Through("t", "r", 2.0), Slow("s")), clock=there) as other,
            Runtime(quick(Bridge("b", other)), clock=here) as runtime,
            asyncio.TaskGroup() as callers,
        ):
            direct = callers.create_task(runtime.ask("b", "r", timeout=10.0))
            await here.advance(3.0)
            assert (await direct).payload == pytest.approx(7.0)
            nested = callers.create_task(runtime.ask("b", "t", timeout=10.0))
            await here.advance(3.0)
            await there.advance(2.0)
            assert (await nested).payload == pytest.approx(5.0)
            late = callers.create_task(outcome(runtime.ask("b", "s", timeout=10.0)))
            await here.advance(3.0)
            await there.advance(6.9)
            assert not late.done()
            await there.advance(0.2)
            assert await late == "DeadlineExceeded"


async def test_what_a_task_of_its_own_asks_has_its_own_deadline() -> None:
    clock, told = ManualClock(), list[Any]()

    class Tasked(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.start_task(self.later())
            return None

        async def later(self) -> None:
            await self.sleep(50.0)
            told.append((await self.ask("r", None, timeout=20.0)).payload)

    with anyio.fail_after(5):
        async with Runtime(quick(Remaining("r"), Tasked("t")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(outcome(runtime.ask("t", None, timeout=5.0)))
            await clock.advance(51.0)
            assert told == [pytest.approx(20.0)]


# --- asking oneself ---------------------------------------------------------------------------------------------------


class Selfish(AgentProcess):
    """Asks itself."""

    async def handle(self, message: Message) -> Any:
        if message.payload == "inner":
            return "inner answer"
        return (await self.ask(self.name, "inner", timeout=5.0)).payload


async def test_a_process_that_asks_itself_is_refused_at_once() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Selfish("s")), clock=ManualClock()) as runtime:  # no time passes
            with pytest.raises(SelfAsk, match="'s' asks itself"):
                await runtime.ask("s", "outer")
            assert (await runtime.ask("s", "inner")).payload == "inner answer"


async def test_a_process_with_several_hands_may_ask_itself() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Selfish("s", concurrency=2))) as runtime:
            assert (await runtime.ask("s", "outer")).payload == "inner answer"


async def test_a_task_of_its_own_and_a_process_of_another_runtime_may_ask_a_process_of_that_name() -> None:
    told = list[Any]()

    class Tasked(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "go":
                self.start_task(self.go())
            return "answer"

        async def go(self) -> None:
            told.append((await self.ask("s", "?")).payload)

    class Bridge(AgentProcess):
        def __init__(self, name: str, other: Runtime) -> None:
            super().__init__(name)
            self.other = other

        async def handle(self, message: Message) -> Any:
            return (await self.other.ask("s", "?")).payload

    with anyio.fail_after(5):
        async with Runtime(quick(Tasked("s"))) as other, Runtime(quick(Bridge("s", other))) as runtime:
            assert (await runtime.ask("s", 1)).payload == "answer"
            await other.ask("s", "go")
            await settle()
            assert told == ["answer"]


async def test_a_process_that_asks_itself_while_it_starts_is_refused_at_once() -> None:
    refused = list[str]()

    class Early(AgentProcess):
        async def on_start(self) -> None:
            refused.append(await outcome(self.ask(self.name, "?", timeout=3.0)))

    clock = ManualClock()
    with anyio.fail_after(5):
        runtime = Runtime(quick(Early("s")), clock=clock)
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(runtime.start())
            await settle()
            at_once = list(refused)
            await clock.advance(4.0)
            await starting
            await runtime.stop()
    assert at_once == ["SelfAsk"]


# --- how long it takes ------------------------------------------------------------------------------------------------


async def busy(runtime: Runtime, clock: ManualClock, callers: asyncio.TaskGroup, seconds: float, times: int = 20) -> None:
    """Let `s` handle a few messages of so many seconds, so that its pace is known."""
    asks = [callers.create_task(runtime.ask("s", seconds, timeout=10_000.0)) for _ in range(times)]
    await clock.advance(seconds * times)
    for ask in asks:
        await ask


async def test_who_cannot_be_served_before_its_deadline_is_refused_at_once_and_told_when_to_come_back() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 2.0)
            waiting = [callers.create_task(runtime.ask("s", 2.0, timeout=100.0)) for _ in range(6)]
            await settle()  # one in hand, five wait: ten seconds
            with pytest.raises(DeadlineUnreachable, match="'s'") as caught:
                await runtime.ask("s", 2.0, timeout=9.0)
            assert caught.value.retry_after == pytest.approx(10.0, rel=0.05)
            in_time = callers.create_task(runtime.ask("s", 2.0, timeout=15.0))
            await runtime.send("s", 0.0)  # a send has no deadline
            await clock.advance(14.0)
            assert all(ask.done() for ask in waiting)
            assert (await in_time).payload == pytest.approx(2.0)
            await clock.advance(1.0)
            assert runtime.router.registry.lookup("s").expired == 0


async def test_an_idle_process_refuses_nobody_however_slow_it_is() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 5.0)
            assert (await runtime.ask("s", 0.0, timeout=0.5)).payload == pytest.approx(0.0)


async def test_fast_agents_refuse_nobody() -> None:
    log, gate, clock = list[Any](), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for number in range(50):
                await runtime.ask("g", number)
            await hold(runtime)
            asks = [callers.create_task(runtime.ask("g", number, timeout=0.01)) for number in range(100)]
            await settle()
            gate.set()
            for ask in asks:
                assert (await ask).payload == "g#1"


async def test_a_process_that_has_become_fast_refuses_nobody_any_more() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 10.0, times=1)
            for _ in range(200):
                await runtime.ask("s", 0.0)
            waiting = [callers.create_task(outcome(runtime.ask("s", 0.0, timeout=5.0))) for _ in range(5)]
            await clock.advance(1.0)
            assert [ask.result() for ask in waiting] == [0.0] * 5


async def test_who_goes_before_the_others_is_not_refused_for_what_waits_behind_it() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 2.0)
            for _ in range(20):
                callers.create_task(outcome(runtime.ask("s", 2.0, timeout=100.0)))
            await settle()
            urgent = callers.create_task(outcome(runtime.ask("s", 2.0, timeout=5.0, priority=9)))
            await clock.advance(4.5)
            assert urgent.result() == pytest.approx(2.0)
            await clock.advance(60.0)


async def test_what_nobody_waits_for_any_more_makes_nobody_else_late() -> None:
    log, gate, clock = list[Any](), asyncio.Event(), ManualClock()

    class Both(Gated):
        async def handle(self, message: Message) -> Any:
            if isinstance(message.payload, float):
                await self.sleep(message.payload)
                return "slept"
            return await super().handle(message)

    with anyio.fail_after(5):
        async with Runtime(quick(Both("s", log, gate)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 2.0)
            await hold(runtime, "s")
            left = [callers.create_task(outcome(runtime.ask("s", 2.0, timeout=100.0))) for _ in range(10)]
            await settle()
            for ask in left:
                ask.cancel()
            await settle()
            in_time = callers.create_task(outcome(runtime.ask("s", "quick", timeout=5.0)))
            await settle()
            gate.set()
            assert await in_time == "s#1"


async def test_a_mailbox_full_of_what_nobody_waits_for_any_more_has_room() -> None:
    log, gate, clock = list[Any](), asyncio.Event(), ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", log, gate, mailbox_size=5)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await hold(runtime)
            for number in range(5):
                callers.create_task(outcome(runtime.ask("g", number, timeout=1.0)))
            await clock.advance(2.0)
            fresh = callers.create_task(outcome(runtime.ask("g", "fresh", timeout=5.0)))
            await settle()
            gate.set()
            assert await fresh == "g#1"


async def test_a_full_mailbox_says_how_long_what_waits_in_it_will_take() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s", mailbox_size=4)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(20):
                await busy(runtime, clock, callers, 2.0, times=1)
            for _ in range(5):
                callers.create_task(outcome(runtime.ask("s", 2.0, timeout=100.0)))
                await settle()
            with pytest.raises(MailboxFull, match="4 messages wait") as caught:
                await runtime.ask("s", 2.0, timeout=100.0)
            assert caught.value.retry_after == pytest.approx(8.0, rel=0.05)
            with pytest.raises(MailboxFull) as caught:
                await runtime.send("s", 2.0)
            assert caught.value.retry_after == pytest.approx(8.0, rel=0.05)
            await clock.advance(100.0)


async def test_a_full_mailbox_whose_pace_is_not_known_says_one_second() -> None:
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with Runtime(quick(Gated("g", [], gate, mailbox_size=1))) as runtime:
            await hold(runtime)
            await runtime.send("g", 1)
            with pytest.raises(MailboxFull) as caught:
                await runtime.send("g", 2)
            assert caught.value.retry_after == pytest.approx(1.0)
            gate.set()


async def test_several_hands_make_the_wait_shorter() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s", concurrency=4)), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await busy(runtime, clock, callers, 2.0, times=40)
            for _ in range(12):
                callers.create_task(outcome(runtime.ask("s", 2.0, timeout=100.0)))
            await settle()  # four in hand, eight wait: four seconds
            with pytest.raises(DeadlineUnreachable) as caught:
                await runtime.ask("s", 2.0, timeout=3.0)
            assert caught.value.retry_after == pytest.approx(4.0, rel=0.05)
            in_time = callers.create_task(outcome(runtime.ask("s", 2.0, timeout=9.0)))
            await clock.advance(8.5)
            assert in_time.result() == pytest.approx(2.0)


async def test_the_time_in_which_a_process_was_idle_or_suspended_is_no_service_time() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(quick(Slow("s")), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(3):
                await busy(runtime, clock, callers, 1.0, times=2)
                await clock.advance(500.0)
                await runtime.suspend("s")
                await clock.advance(500.0)
                await runtime.resume("s")
            assert runtime.router.registry.lookup("s").service_time == pytest.approx(1.0, rel=0.05)


# --- to several -------------------------------------------------------------------------------------------------------


class Listening(AgentProcess):
    """Writes down who heard what."""

    capabilities = ["listen"]  # noqa: RUF012  # the seed's form
    capability_metadata = {"listen": {"languages": ["en"]}}  # noqa: RUF012  # the seed's form

    def __init__(self, name: str, log: list[Any], **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log

    async def handle(self, message: Message) -> Any:
        match message.payload:
            case "tell the others":
                return await self.broadcast("ear-*", "hello", "greeting")
            case "tell the capable":
                return await self.send_capable("listen", "hello")
            case "forge":
                return await self.broadcast("*", "x", "portico.stop")
            case _:
                self.log.append((self.name, message.type, message.payload, message.sender))
                return None


async def test_a_broadcast_reaches_everybody_whose_name_matches_but_the_sender() -> None:
    log = list[Any]()
    with anyio.fail_after(5):
        async with Runtime(quick(*(Listening(f"ear-{n}", log) for n in range(3)), Listening("eye", log))) as runtime:
            assert await runtime.broadcast("ear-*", "hi") == ["ear-0", "ear-1", "ear-2"]
            await settle()
            assert sorted(log) == [(f"ear-{n}", "message", "hi", "") for n in range(3)]
            log.clear()
            assert (await runtime.ask("ear-1", "tell the others")).payload == ["ear-0", "ear-2"]
            await settle()
            assert sorted(log) == [(f"ear-{n}", "greeting", "hello", "ear-1") for n in (0, 2)]
            assert await runtime.broadcast("nobody-*", "hi") == []


async def test_a_broadcast_leaves_out_who_is_full_or_has_ended_and_waits_for_nobody() -> None:
    gate = asyncio.Event()

    class Crashing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            raise BoomError

    with anyio.fail_after(5):
        root = quick(Gated("a", [], gate, mailbox_size=1), Crashing("b", restart="temporary"), Gated("c", [], gate))
        async with Runtime(root) as runtime:
            await hold(runtime, "a")
            await runtime.send("a", 1)
            await runtime.send("b", 1)
            await runtime.suspend("c")
            await settle()
            assert await runtime.broadcast("*", "hi") == ["c"]
            gate.set()


async def test_a_broadcast_cannot_have_a_reserved_type() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Listening("ear-1", []), Echo("e"))) as runtime:
            for kind in ("portico.stop", "DOWN", "EXIT"):
                with pytest.raises(ReservedType, match=kind):
                    await runtime.broadcast("*", "x", kind)
            with pytest.raises(ReservedType):
                await runtime.ask("ear-1", "forge")


async def test_who_can_do_what_is_found_with_what_it_says_about_it() -> None:
    log = list[Any]()
    with anyio.fail_after(5):
        async with Runtime(quick(Listening("a", log), Listening("b", log), Echo("e"))) as runtime:
            registry = runtime.router.registry
            assert registry.find_by_capability("listen") == ["a", "b"]
            assert registry.capability_metadata("listen", "a") == {"languages": ["en"]}
            assert registry.capability_metadata("listen", "e") == {}
            assert registry.find_by_capability("lissten") == []
            assert (await runtime.ask("a", "tell the capable")).payload == ["b"]
            await settle()
            assert log == [("b", "message", "hello", "a")]


async def test_capabilities_are_still_found_after_a_crash() -> None:
    class Crashing(Listening):
        async def handle(self, message: Message) -> Any:
            raise BoomError

    with anyio.fail_after(5):
        async with Runtime(quick(Crashing("a", []))) as runtime:
            await runtime.send("a", 1)
            await settle()
            assert agent(runtime, "a").id == "a#2"
            assert runtime.router.registry.find_by_capability("listen") == ["a"]
            assert runtime.router.registry.capability_metadata("listen", "a") == {"languages": ["en"]}
