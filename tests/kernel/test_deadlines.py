"""Deadlines: kept by one wheel, handed on to nested asks, and enforced against handlers that do not listen."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import AgentCrashed, AgentError, CallError, Cancelled, DeadlineExceeded
from portico.kernel.deadlines import TICK, Deadlines
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.messages import Message
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Deaf, Echo, Patient, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gate() -> AsyncIterator[asyncio.Event]:
    """Opened when the test is over, so that no deaf process outlives it."""
    event = asyncio.Event()
    yield event
    event.set()


def ignore(delivery: Delivery) -> None:
    """Where nobody wants to hear of what expired."""


# --- the wheel --------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=20), st.floats(0.0, 1e6))
def test_the_wheel_ends_every_delivery_within_a_tick_after_its_deadline_and_never_before(waits: list[float], start: float) -> None:
    async def scenario() -> None:
        clock = ManualClock(start)
        wheel = Deadlines(clock, ignore)
        deliveries = [Delivery(Message(deadline=start + wait)) for wait in waits]
        for delivery in deliveries:
            wheel.add(delivery)
        for wait in sorted(waits):
            due = start + wait
            await clock.advance(max(0.0, due - clock.now() - 1e-6))
            for delivery in deliveries:
                assert delivery.message.deadline is not None
                if delivery.message.deadline > clock.now():
                    assert not delivery.finished, "early"
                if delivery.message.deadline + TICK + 1e-6 < clock.now():
                    assert delivery.finished, "late"
        await clock.advance(2 * TICK)
        assert all(delivery.finished for delivery in deliveries)
        assert clock.pending == 0

    asyncio.run(scenario())


async def test_the_wheel_keeps_nothing_of_a_delivery_that_was_discarded() -> None:
    clock = ManualClock()
    wheel = Deadlines(clock, ignore)
    message = Message(deadline=clock.now() + 5.0)
    delivery = Delivery(message)
    wheel.add(delivery)
    wheel.discard(delivery)
    wheel.discard(delivery)
    assert not any(type(holder) is dict for holder in gc.get_referrers(delivery))
    await clock.advance(10.0)
    assert not delivery.finished
    assert clock.pending == 0


async def test_a_delivery_without_a_deadline_is_not_watched() -> None:
    clock = ManualClock()
    wheel = Deadlines(clock, ignore)
    wheel.add(Delivery(Message()))
    assert clock.pending == 0


async def test_an_earlier_deadline_that_comes_later_gets_its_own_timer() -> None:
    clock = ManualClock()
    wheel = Deadlines(clock, ignore)
    late, early = (Delivery(Message(deadline=clock.now() + wait)) for wait in (10.0, 1.0))
    wheel.add(late)
    wheel.add(early)
    await clock.advance(1.1)
    assert (early.finished, late.finished) == (True, False)
    await clock.advance(9.0)
    assert late.finished


async def test_a_deadline_that_has_passed_already_is_kept_too() -> None:
    clock = ManualClock()
    wheel = Deadlines(clock, ignore)
    deadline = clock.now() + 1.0
    for _ in range(2):  # the second belongs to a bucket that has been emptied
        delivery = Delivery(Message(deadline=deadline))
        wheel.add(delivery)
        await clock.advance(2.0)
        assert delivery.finished


async def test_a_wheel_that_was_closed_watches_anew() -> None:
    clock = ManualClock()
    wheel = Deadlines(clock, ignore)
    deadline = clock.now() + 1.0
    wheel.add(Delivery(Message(deadline=deadline)))
    wheel.close()
    assert clock.pending == 0
    again = Delivery(Message(deadline=deadline))
    wheel.add(again)
    await clock.advance(1.1)
    assert again.finished


# --- asks -------------------------------------------------------------------------------------------------------------


async def error_of(runtime: Runtime, name: str, payload: Any = None, timeout: float = 1.0) -> CallError:
    with pytest.raises(CallError) as caught:
        await runtime.ask(name, payload, timeout)
    return caught.value


async def test_a_handler_past_its_deadline_is_cancelled_and_the_process_lives() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Patient("p")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            process: Patient = agent(runtime, "p")
            asked = callers.create_task(error_of(runtime, "p"))
            await clock.advance(0.99)
            assert process.began.is_set()
            assert not process.cancelled.is_set()
            await clock.advance(0.03)
            assert process.cancelled.is_set()
            assert isinstance(asked.result(), DeadlineExceeded)
            assert str(asked.result()) == "Agent 'p' did not reply before the deadline."
            process.gate.set()
            assert (await runtime.ask("p", "next")).payload == "next"
            assert agent(runtime, "p") is process


async def test_changes_of_a_handler_past_its_deadline_are_rolled_back() -> None:
    class Counter(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.state["n"] = self.state.get("n", 0) + 1
            if message.payload == "hang":
                await asyncio.Event().wait()
            return self.state["n"]

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Counter("c")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            assert (await runtime.ask("c", "count")).payload == 1
            callers.create_task(error_of(runtime, "c", "hang"))
            await clock.advance(1.1)
            assert (await runtime.ask("c", "count")).payload == 2
            assert agent(runtime, "c").id == "c#1"


async def test_a_message_past_its_deadline_is_dropped_before_its_handling_starts() -> None:
    clock, witness = ManualClock(), Witness()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("e")]), clock=clock, observers=[witness]) as runtime:
            error = None
            async with asyncio.TaskGroup() as callers:
                asked = callers.create_task(error_of(runtime, "e", timeout=0.0))
                await clock.advance(1.0)
                error = asked.result()
            assert isinstance(error, DeadlineExceeded)
            assert witness.names(EventKind.MESSAGE_EXPIRED) == ["e"]


async def test_the_deadline_of_a_nested_ask_shrinks_to_that_of_its_cause_and_its_callee_is_cancelled() -> None:
    remaining: list[float | None] = []

    class Inner(Patient):
        async def handle(self, message: Message) -> Any:
            remaining.append(self.context.remaining())
            return await super().handle(message)

    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            await self.sleep(2.0)
            return (await self.ask("inner", None, timeout=30.0)).payload

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Inner("inner"), Outer("outer")]), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                callers.create_task(error_of(runtime, "outer", timeout=5.0))
                await clock.advance(2.0)
                assert remaining == [pytest.approx(3.0)]  # pyright: ignore[reportUnknownMemberType]  # as pytest ships it
                await clock.advance(3.02)
            assert agent(runtime, "inner").cancelled.is_set()
            assert [child.id for child in runtime.all_agents()] == ["inner#1", "outer#1"]


async def test_a_nested_ask_may_have_a_shorter_deadline_of_its_own() -> None:
    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            try:
                await self.ask("p", None, timeout=1.0)
            except DeadlineExceeded as error:
                return f"gave up on {error.name}"

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Patient("p"), Outer("outer")]), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                asked = callers.create_task(runtime.ask("outer", None, timeout=30.0))
                await clock.advance(1.1)
                assert (await asked).payload == "gave up on p"
            assert agent(runtime, "p").cancelled.is_set()


async def test_a_handler_that_ignores_its_cancellation_counts_as_crashed_and_a_successor_takes_over(gate: asyncio.Event) -> None:
    began, clock, witness = asyncio.Event(), ManualClock(), Witness()
    root = Supervisor("root", [Deaf("d", began, gate, shutdown_timeout=3.0)], backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock, observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            deaf = agent(runtime, "d")
            asked = callers.create_task(error_of(runtime, "d", "block"))
            await clock.advance(1.1)
            assert isinstance(asked.result(), DeadlineExceeded)  # its caller does not wait for that
            waiting = callers.create_task(runtime.ask("d", "hello"))
            await clock.advance(2.8)
            assert not waiting.done()
            await clock.advance(0.2)
            assert (await waiting).payload == "d#2"
            assert deaf.status != "running"
            assert witness.names(EventKind.PROCESS_CRASHED) == ["d"]
            gate.set()
            await settle()
            assert (await runtime.ask("d", "hello")).payload == "d#2"


async def test_what_a_deaf_handler_does_after_it_was_given_up_counts_for_nothing(gate: asyncio.Event) -> None:
    class Writer(Deaf):
        async def handle(self, message: Message) -> Any:
            reply = await super().handle(message)
            if message.payload == "block":
                self.state["written"] = "by a ghost"
                await self.checkpoint()
            return [reply, self.state.get("written")]

    began, clock = asyncio.Event(), ManualClock()
    root = Supervisor("root", [Writer("w", began, gate, shutdown_timeout=3.0)], backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(error_of(runtime, "w", "block"))
            await clock.advance(1.1)
            await clock.advance(3.0)
            gate.set()
            await settle()
            await runtime.restart_agent("w")
            assert (await runtime.ask("w", "hello")).payload == ["w#3", None]


async def test_a_caller_that_is_cancelled_cancels_the_handling() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Patient("p")])) as runtime, asyncio.TaskGroup() as callers:
            process: Patient = agent(runtime, "p")
            asked = callers.create_task(runtime.ask("p", None))
            await process.began.wait()
            asked.cancel()
            await process.cancelled.wait()
            await settle()
            process.gate.set()
            assert (await runtime.ask("p", "next")).payload == "next"
            assert process.id == "p#1"


async def test_a_caller_that_is_cancelled_while_its_message_waits_takes_it_back() -> None:
    handled: list[Any] = []

    class Recorder(Patient):
        async def handle(self, message: Message) -> Any:
            handled.append(message.payload)
            return await super().handle(message)

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Recorder("p")])) as runtime, asyncio.TaskGroup() as callers:
            first = callers.create_task(runtime.ask("p", "first"))
            second = callers.create_task(runtime.ask("p", "second"))
            await agent(runtime, "p").began.wait()
            second.cancel()
            await settle()
            agent(runtime, "p").gate.set()
            await first
            await runtime.ask("p", "third")
    assert handled == ["first", "third"]


@pytest.mark.parametrize("ends", [BoomError("while leaving"), AgentError("half-done"), None])
async def test_whatever_a_cancelled_handler_does_on_its_way_out_the_process_lives(ends: Exception | None) -> None:
    class Leaving(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "hello":
                return self.id
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if ends is not None:
                    raise ends from None
            return "partial"

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Leaving("p")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(error_of(runtime, "p"))
            await clock.advance(1.1)
            assert isinstance(asked.result(), DeadlineExceeded)
            assert (await runtime.ask("p", "hello")).payload == "p#1"


async def test_a_handler_that_cancels_a_call_in_its_own_way_keeps_its_process() -> None:
    """`asyncio.timeout` inside a handler counts cancellations too; both must come out even."""

    class Careful(AgentProcess):
        async def handle(self, message: Message) -> Any:
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                return self.id

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Careful("c")])) as runtime:
            for _ in range(3):
                assert (await runtime.ask("c", None)).payload == "c#1"


# --- handle_timeout ---------------------------------------------------------------------------------------------------


async def test_a_handling_longer_than_handle_timeout_is_a_crash() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Patient("p", handle_timeout=2.0)], max_restarts=1, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(error_of(runtime, "p", timeout=60.0))
            await clock.advance(2.0)
            assert agent(runtime, "p").id == "p#2"
            await clock.advance(2.0)
            error = asked.result()
            assert isinstance(error, AgentCrashed)
            assert error.attempts == 2
            assert str(error.cause) == "one handling took longer than handle_timeout (2 s)"


async def test_a_handler_that_swallows_its_handle_timeout_has_crashed_all_the_same() -> None:
    class Swallowing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "partial"

    clock = ManualClock()
    root = Supervisor("root", [Swallowing("s", handle_timeout=2.0)], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(3):  # charged to its message, and so to no window
                asked = callers.create_task(expect_crash_from_outside(runtime))
                await clock.advance(2.0)
                assert asked.done()
            assert runtime.alive


async def expect_crash_from_outside(runtime: Runtime) -> None:
    with pytest.raises(AgentCrashed, match="HandleTimeoutError"):
        await ask_from_outside(runtime, "s", None, timeout=60.0)


async def test_a_handling_within_handle_timeout_leaves_no_timer_behind() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("e", handle_timeout=2.0)]), clock=clock) as runtime:
            for number in range(3):
                assert (await runtime.ask("e", number, timeout=1.0)).payload == number
            await clock.advance(10.0)
            assert clock.pending == 0
            assert agent(runtime, "e").id == "e#1"


async def test_a_deadline_during_the_grace_after_a_handle_timeout_does_not_give_up_a_healthy_process() -> None:
    """Both clocks run out while the handler cleans up; afterwards neither may still tick."""

    class Cleaning(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "hello":
                return self.id
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                while cleaning.is_set():
                    try:
                        await self.sleep(0.5)
                        break
                    except asyncio.CancelledError:
                        continue
                raise

        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            return ErrorAction.SKIP

    cleaning = asyncio.Event()
    cleaning.set()
    clock = ManualClock()
    root = Supervisor("root", [Cleaning("c", handle_timeout=1.0, shutdown_timeout=3.0)])
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(error_of(runtime, "c", timeout=1.2))
            await clock.advance(1.0)
            await clock.advance(0.25)
            await clock.advance(1.0)
            await clock.advance(10.0)
            assert (await runtime.ask("c", "hello")).payload == "c#1"


# --- on_error under a deadline ----------------------------------------------------------------------------------------


async def test_an_on_error_that_hangs_ends_with_the_deadline_of_its_message() -> None:
    class Pondering(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "hello":
                return self.id
            raise BoomError

        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            await asyncio.Event().wait()
            return ErrorAction.SKIP

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Pondering("p")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(error_of(runtime, "p"))
            await clock.advance(1.1)
            assert isinstance(asked.result(), DeadlineExceeded)
            assert (await runtime.ask("p", "hello")).payload == "p#1"


async def test_a_long_retry_delay_ends_with_the_deadline_of_its_message() -> None:
    class Retrying(AgentProcess):
        retry_delay = 60.0

        async def handle(self, message: Message) -> Any:
            if message.payload == "hello":
                return self.id
            raise BoomError

        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            return ErrorAction.RETRY

    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Retrying("r")]), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(error_of(runtime, "r"))
            await clock.advance(1.1)
            assert isinstance(asked.result(), DeadlineExceeded)
            assert (await runtime.ask("r", "hello", timeout=1.0)).payload == "r#1"


async def test_the_nested_call_of_a_caller_who_left_is_cancelled_too() -> None:
    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            try:
                return (await self.ask("p", None)).payload
            except Cancelled:
                return "not reached"

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Patient("p"), Outer("outer")])) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(runtime.ask("outer", None))
            await agent(runtime, "p").began.wait()
            asked.cancel()
            await agent(runtime, "p").cancelled.wait()
