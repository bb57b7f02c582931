"""`on_error`: what an agent may choose after its handler raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import AgentCrashed, ProcessExited
from portico.kernel.events import EventKind
from portico.kernel.process import ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import settle
from tests.kernel.helpers import BoomError, Fragile, Witness, agent

if TYPE_CHECKING:
    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Choosing(Fragile):
    """Does as it is told when its handler raised."""

    retry_delay = 0.0

    def __init__(self, name: str, action: ErrorAction, **options: Any) -> None:
        super().__init__(name, **options)
        self.action = action
        self.asked: list[str] = []

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        self.asked.append(str(error))
        return self.action

    @operation(idempotent=False)
    async def once(self) -> int:
        raise BoomError("once")


def tree(process: Choosing, max_restarts: int = 3) -> Supervisor:
    return Supervisor("root", [process], max_restarts=max_restarts, backoff_base=0.0)


async def test_retry_handles_the_message_again_in_the_same_life() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.RETRY))) as runtime:
            assert (await runtime.ask("c", 2)).payload == {"id": "c#1", "attempt": 2}
            assert agent(runtime, "c").asked == ["attempt 0", "attempt 1"]


async def test_retries_are_bounded_as_redeliveries_are_and_the_process_lives() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.RETRY), max_restarts=2)) as runtime:
            with pytest.raises(AgentCrashed, match="crashed 3 times"):
                await runtime.ask("c", 99)
            assert (await runtime.ask("c", 0)).payload["id"] == "c#1"


async def test_what_must_not_be_handled_twice_is_not_retried_either() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.RETRY))) as runtime:
            with pytest.raises(AgentCrashed, match="crashed once"):
                await runtime.ask("c", None, message_type="once")
            assert agent(runtime, "c").asked == ["once"]


async def test_skip_gives_the_caller_the_error_and_goes_on_with_the_next_message() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.SKIP))) as runtime:
            with pytest.raises(AgentCrashed) as caught:
                await runtime.ask("c", 1)
            assert isinstance(caught.value.cause, BoomError)
            assert (await runtime.ask("c", 0)).payload["id"] == "c#1"


async def test_a_send_that_is_skipped_leaves_a_dead_letter() -> None:
    witness = Witness()
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.SKIP)), observers=[witness]) as runtime:
            await runtime.send("c", 1)
            await settle()
            assert witness.names(EventKind.DEAD_LETTER) == ["c"]


async def test_stop_gives_the_caller_the_error_and_ends_the_process_normally() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.STOP, restart="transient"))) as runtime:
            with pytest.raises(AgentCrashed):
                await runtime.ask("c", 1)
            with pytest.raises(ProcessExited):
                await runtime.ask("c", 0)
            assert agent(runtime, "c").status == "stopped"
            assert runtime.alive


async def test_escalate_is_a_crash() -> None:
    with anyio.fail_after(5):
        async with Runtime(tree(Choosing("c", ErrorAction.ESCALATE))) as runtime:
            assert (await runtime.ask("c", 1)).payload == {"id": "c#2", "attempt": 1}


async def test_an_on_error_that_raises_is_a_crash() -> None:
    class Worse(Choosing):
        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            raise BoomError("again")

    with anyio.fail_after(5):
        async with Runtime(tree(Worse("c", ErrorAction.SKIP))) as runtime:
            assert (await runtime.ask("c", 1)).payload == {"id": "c#2", "attempt": 1}


async def test_state_is_rolled_back_before_a_retry() -> None:
    class Counting(Choosing):
        async def handle(self, message: Message) -> Any:
            self.state["n"] = self.state.get("n", 0) + 1
            await super().handle(message)
            return self.state["n"]

    with anyio.fail_after(5):
        async with Runtime(tree(Counting("c", ErrorAction.RETRY))) as runtime:
            assert (await runtime.ask("c", 2)).payload == 1
            assert (await runtime.ask("c", 0)).payload == 2
