"""What becomes of messages when an agent crashes: redelivery, attempts, dead letters, and who pays."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, AgentError, DeadlineExceeded, ProcessExited
from portico.kernel.events import EventKind
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Fragile, Logged, Patient, Witness, agent, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


def quick(*children: AgentProcess, max_restarts: int = 3) -> Supervisor:
    return Supervisor("root", children, max_restarts=max_restarts, backoff_base=0.0)


class Poisoned(AgentProcess):
    """Keeps what it was made with, until a message poisons it."""

    def __init__(self, name: str, *, greeting: str) -> None:
        super().__init__(name)
        self.greeting = greeting

    async def handle(self, message: Message) -> Any:
        if message.payload == "poison":
            self.greeting = "poisoned"
            raise BoomError
        return self.greeting


async def test_a_restart_builds_a_fresh_instance_from_the_constructors_arguments() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Poisoned("p", greeting="hello"))) as runtime:
            before = agent(runtime, "p")
            await runtime.send("p", "poison")
            assert (await runtime.ask("p", "?")).payload == "hello"
            assert agent(runtime, "p") is not before


async def test_what_was_adjusted_after_the_constructor_survives_a_restart() -> None:
    process = Poisoned("p", greeting="hello").adjust(mailbox_size=7, restart="TRANSIENT", description="Greets.")
    with anyio.fail_after(5):
        async with Runtime(quick(process)) as runtime:
            await runtime.send("p", "poison")
            await runtime.ask("p", "?")
            fresh = agent(runtime, "p")
            assert fresh is not process
            assert (fresh.mailbox_size, fresh.restart, fresh.description) == (7, "transient", "Greets.")


async def test_an_ask_in_hand_is_delivered_again_with_its_attempts_counted() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"))) as runtime:
            reply = await runtime.ask("f", 3)
            assert reply.payload == {"id": "f#4", "attempt": 3}
            assert reply.attempt == 3


async def test_the_redelivered_ask_is_handled_before_those_that_waited() -> None:
    handled: list[str] = []

    class Ordered(AgentProcess):
        async def handle(self, message: Message) -> Any:
            handled.append(f"{message.payload}/{message.attempt}")
            if message.payload == "first" and message.attempt == 0:
                raise BoomError
            return message.payload

    with anyio.fail_after(5):
        async with Runtime(quick(Ordered("o"))) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(runtime.ask("o", payload)) for payload in ("first", "second", "third")]
        assert [(await ask).payload for ask in asks] == ["first", "second", "third"]
    assert handled == ["first/0", "first/1", "second/0", "third/0"]


async def test_after_the_last_attempt_the_caller_gets_agent_crashed_with_the_particulars() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"), max_restarts=2), observers=[witness]) as runtime:
            with pytest.raises(AgentCrashed) as caught:
                await runtime.ask("f", 99)
            error = caught.value
            assert isinstance(error.cause, BoomError)
            assert (error.attempts, error.incarnation, error.restarts) == (3, 3, 2)
            assert error.extra == {"attempts": 3, "incarnation": 3, "restarts": 2}
            assert str(error) == "Agent 'f' crashed 3 times on this message (BoomError)."
            assert witness.names(EventKind.DEAD_LETTER) == ["f"]
            assert (await runtime.ask("f", 0)).payload == {"id": "f#4", "attempt": 0}  # it lives on


class Once(AgentProcess):
    """Has an operation that must not run twice, and counts how often it does."""

    def __init__(self, name: str, handled: list[int]) -> None:
        super().__init__(name)
        self.handled = handled

    @operation(idempotent=False)
    async def pay(self, amount: int) -> int:
        self.handled.append(amount)
        raise BoomError

    @operation(idempotent=True)
    async def look(self, amount: int) -> int:
        self.handled.append(amount)
        if len(self.handled) < 3:
            raise BoomError
        return amount


async def test_an_operation_that_is_not_idempotent_is_never_delivered_twice() -> None:
    handled: list[int] = []
    with anyio.fail_after(5):
        async with Runtime(quick(Once("bank", handled))) as runtime:
            with pytest.raises(AgentCrashed, match="crashed once"):
                await runtime.ask("bank", {"amount": 5}, message_type="pay")
            assert handled == [5]
            assert (await runtime.ask("bank", {"amount": 6}, message_type="look")).payload == 6
    assert handled == [5, 6, 6]


async def test_when_the_next_backoff_would_pass_the_deadline_the_caller_hears_at_once() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Fragile("f")], backoff_base=10.0), clock=clock) as runtime:
            with pytest.raises(AgentCrashed):
                await runtime.ask("f", 1, timeout=9.0)  # no time passes
            async with asyncio.TaskGroup() as callers:
                asked = callers.create_task(runtime.ask("f", 1, timeout=30.0))
                await clock.advance(10.0)  # the restart after the first crash
                await clock.advance(10.0)
                assert (await asked).payload["attempt"] == 1


async def test_messages_that_wait_survive_a_crash() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Logged("a", []))) as runtime, asyncio.TaskGroup() as callers:
            await runtime.send("a", "crash")
            asks = [callers.create_task(runtime.ask("a", number)) for number in range(5)]
        assert [(await ask).payload for ask in asks] == ["a#2"] * 5


async def test_a_send_in_hand_when_its_handler_crashes_is_a_dead_letter_at_once() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f")), observers=[witness]) as runtime:
            await runtime.send("f", 1)
            assert (await runtime.ask("f", 0)).payload["id"] == "f#2"
            (letter,) = witness.of(EventKind.DEAD_LETTER)
            assert letter.data["message"].payload == 1
            assert "BoomError" in letter.data["reason"]


async def test_a_send_that_is_refused_with_a_declared_error_leaves_a_dead_letter() -> None:
    class Refusing(AgentProcess):
        async def handle(self, message: Message) -> Any:
            raise AgentError("no", "Not today.")

    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Refusing("r")), observers=[witness]) as runtime:
            await runtime.send("r", 1)
            await settle()
            assert [event.data["reason"] for event in witness.of(EventKind.DEAD_LETTER)] == ["Not today."]


async def test_a_crash_that_an_outside_origin_caused_counts_to_no_window() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"), max_restarts=1), observers=[witness]) as runtime:
            for _ in range(5):
                with pytest.raises(AgentCrashed):
                    await ask_from_outside(runtime, "f", 99)
            assert runtime.alive
            assert len(witness.of(EventKind.PROCESS_CRASHED)) == 10


async def test_an_origin_is_inherited_by_nested_asks_and_sends() -> None:
    class Middle(AgentProcess):
        async def handle(self, message: Message) -> Any:
            await self.send("f", 99)
            return (await self.ask("f", 99)).payload

    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"), Middle("m"), max_restarts=0)) as runtime:
            for _ in range(3):
                with pytest.raises(AgentCrashed):
                    await ask_from_outside(runtime, "m", None)
            assert runtime.alive


async def test_crashes_without_an_origin_count_and_the_repeated_crashes_of_one_message_once() -> None:
    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"), max_restarts=2)) as runtime:
            for _ in range(2):  # each crashes three times, and counts once
                with pytest.raises(AgentCrashed):
                    await runtime.ask("f", 99)
            assert runtime.alive
            with pytest.raises(ProcessExited):
                await runtime.ask("f", 99)
            assert not runtime.alive


async def test_a_callees_crash_is_handed_on_and_does_not_crash_the_asker() -> None:
    class Asker(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("f", 99)).payload

    with anyio.fail_after(5):
        async with Runtime(quick(Fragile("f"), Asker("asker"), max_restarts=1)) as runtime:
            with pytest.raises(AgentCrashed, match="'f'"):
                await runtime.ask("asker", None)
            assert agent(runtime, "asker").id == "asker#1"


async def test_a_request_that_a_crashed_handler_changed_is_read_anew_for_the_next_attempt() -> None:
    class Greedy(AgentProcess):
        @operation
        async def count(self, items: list[int]) -> int:
            items.pop()
            if self.id.endswith("#1"):
                raise BoomError
            return len(items)

    with anyio.fail_after(5):
        async with Runtime(quick(Greedy("g"))) as runtime:
            assert (await runtime.ask("g", [1, 2, 3], message_type="count")).payload == 2


async def test_a_handler_that_raises_a_cancellation_which_nobody_asked_for_is_a_crash_with_bounded_attempts() -> None:
    class Stray(AgentProcess):
        async def handle(self, message: Message) -> Any:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    with anyio.fail_after(5):
        async with Runtime(quick(Stray("s"), max_restarts=1)) as runtime:
            for _ in range(3):
                with pytest.raises(AgentCrashed, match="crashed 2 times"):
                    await ask_from_outside(runtime, "s", None)
            assert runtime.alive


async def test_a_deadline_that_passes_during_the_backoff_ends_the_ask_in_time() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Logged("a", [])], backoff_base=50.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await runtime.send("a", "crash")
            asked = callers.create_task(expect_deadline(runtime))
            await clock.advance(10.0)
            assert not asked.done()
            await clock.advance(0.02)
            assert asked.done()


async def expect_deadline(runtime: Runtime) -> None:
    with pytest.raises(DeadlineExceeded):
        await runtime.ask("a", "hello", timeout=10.0)


async def test_a_task_of_its_own_that_raises_crashes_the_process_and_the_ask_in_hand_comes_again_uncharged() -> None:
    class Busy(Patient):
        async def handle(self, message: Message) -> Any:
            if self.id.endswith("#1"):
                self.start_task(self.fail(), "failing")
                await super().handle(message)
            return {"id": self.id, "attempt": message.attempt}

        async def fail(self) -> None:
            raise BoomError

    with anyio.fail_after(5):
        async with Runtime(quick(Busy("b"))) as runtime:
            assert (await runtime.ask("b", None)).payload == {"id": "b#2", "attempt": 0}


async def test_a_handler_that_calls_sys_exit_ends_its_process_and_not_the_program() -> None:
    class Exiting(AgentProcess):
        async def handle(self, message: Message) -> str:
            if message.attempt == 0:
                sys.exit(3)
            return self.id

    async with Runtime(Supervisor("root", [Exiting("agent")], backoff_base=0)) as runtime:
        with anyio.fail_after(5):
            assert (await runtime.ask("agent", {})).payload == "agent#2"


async def test_an_exception_that_cannot_say_what_it_is_crashes_its_process_alone() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    class Muted(AgentProcess):
        async def handle(self, message: Message) -> str:
            if message.payload == "crash":
                raise MuteError
            return "fine"

    async with Runtime(Supervisor("root", [Muted("agent")], backoff_base=0, max_restarts=10)) as runtime:
        with anyio.fail_after(5):
            with pytest.raises(AgentCrashed):
                await ask_from_outside(runtime, "agent", "crash")
            assert (await runtime.ask("agent", "ask")).payload == "fine"
        assert runtime.alive
