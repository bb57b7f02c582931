"""Random trees of agents that crash at random, asked at random: whatever happens, nobody is left waiting.

The time is a `ManualClock`'s, so an hour of backoff costs milliseconds, and a case that failed fails again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portico.errors import AgentError, CallError
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock
from tests.kernel.helpers import BoomError, ask_from_outside

if TYPE_CHECKING:
    from portico.kernel.messages import Message

TIMEOUT = 20.0
"""Seconds that every ask may take."""


class Chaotic(AgentProcess):
    """Replies, crashes, refuses, waits, asks another or fails to start: its own seeded dice decide."""

    def __init__(self, name: str, seed: int, peers: list[str], attempts: dict[str, int], **options: Any) -> None:
        super().__init__(name, shutdown_timeout=1.0, **options)
        self.seed = seed
        self.peers = peers
        self.attempts = attempts

    async def on_start(self) -> None:
        self.dice = random.Random(f"{self.seed} {self.id}")
        if not self.id.endswith("#1") and self.dice.random() < 0.1:
            raise BoomError("start")

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        return self.dice.choice([ErrorAction.ESCALATE, ErrorAction.ESCALATE, ErrorAction.RETRY, ErrorAction.SKIP])

    async def handle(self, message: Message) -> Any:
        self.attempts[message.id] = self.attempts.get(message.id, 0) + 1
        self.state["n"] = self.state.get("n", 0) + 1
        match self.dice.choice(["reply"] * 5 + ["crash", "crash", "refuse", "wait", "nothing", "ask", "task"]):
            case "crash":
                raise BoomError("handler")
            case "refuse":
                raise AgentError("refused")
            case "wait":
                await self.sleep(self.dice.uniform(0.0, 2 * TIMEOUT))
            case "nothing":
                return None
            case "ask":
                return (await self.ask(self.dice.choice(self.peers), None)).payload
            case "task":
                self.start_task(self.fail_later())
            case _:
                pass
        return self.name

    async def fail_later(self) -> None:
        await self.sleep(self.dice.uniform(0.0, 10.0))
        raise BoomError("task")


@dataclass(frozen=True)
class Shape:
    """A supervisor and what stands below it: a number is that many agents."""

    strategy: str
    max_restarts: int
    backoff: str
    children: list[int | Shape]


shapes: st.SearchStrategy[Shape] = st.deferred(
    lambda: st.builds(
        Shape,
        st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        st.integers(0, 5),
        st.sampled_from(["constant", "linear", "exponential"]),
        st.lists(st.integers(1, 2) | shapes, min_size=1, max_size=2),
    )
)


class Scenario:
    """One tree, built from a shape."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.seed = seed
        self.names: list[str] = []
        self.attempts: dict[str, int] = {}
        self.most = 0
        self.root = self.supervisor(shape, "root")

    def supervisor(self, shape: Shape, name: str) -> Supervisor:
        children: list[AgentProcess | Supervisor] = []
        self.most = max(self.most, 1 + shape.max_restarts)
        for place, child in enumerate(shape.children):
            if isinstance(child, Shape):
                children.append(self.supervisor(child, f"{name}-{place}"))
            else:
                children += [self.process(f"{name}-{place}-{number}") for number in range(child)]
        return Supervisor(
            name, children, shape.strategy, shape.max_restarts, backoff=shape.backoff, backoff_base=0.5, backoff_max=5.0
        )

    def process(self, name: str) -> AgentProcess:
        self.names.append(name)
        kind = ["permanent", "permanent", "permanent", "transient", "temporary"][(self.seed + len(self.names)) % 5]
        return Chaotic(name, self.seed, self.names, self.attempts, restart=kind)

    async def play(self, asks: list[tuple[int, float, bool]]) -> None:
        clock = ManualClock()
        runtime = Runtime(self.root, clock=clock)
        await runtime.start()
        async with asyncio.TaskGroup() as tasks:
            ends: list[tuple[float, asyncio.Task[float]]] = []
            for which, pause, outside in asks:
                name = self.names[which % len(self.names)]
                ends.append((clock.now(), tasks.create_task(self.end_of(runtime, name, clock, outside=outside))))
                await clock.advance(pause)
            await clock.advance(TIMEOUT + 0.1)
            for asked_at, task in ends:
                assert task.done(), "an ask was left without an end"
                assert task.result() - asked_at <= TIMEOUT + 0.1, "an ask ended after its deadline"
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(60.0)
            assert stopping.done(), "the stop did not end"
        assert not runtime.started
        assert all(child.status != "running" for child in runtime.all_agents())

    async def end_of(self, runtime: Runtime, name: str, clock: ManualClock, *, outside: bool) -> float:
        """When the ask ended, in whatever way a call may end."""
        try:
            if outside:
                await ask_from_outside(runtime, name, None, TIMEOUT)
            else:
                await runtime.ask(name, None, TIMEOUT)
        except CallError:
            pass
        return clock.now()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=shapes,
    seed=st.integers(0, 10_000),
    asks=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.0, 0.0, 0.3, 4.0]), st.booleans()), min_size=1, max_size=15),
)
def test_no_ask_is_ever_left_without_an_end_and_every_stop_ends(
    shape: Shape, seed: int, asks: list[tuple[int, float, bool]]
) -> None:
    scenario = Scenario(shape, seed)
    asyncio.run(asyncio.wait_for(scenario.play(asks), 30))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), max_restarts=st.integers(0, 4), retry=st.booleans())
def test_a_message_is_handled_at_most_once_more_than_its_supervisor_restarts(seed: int, max_restarts: int, *, retry: bool) -> None:
    handled: list[str] = []

    class Doomed(AgentProcess):
        async def handle(self, message: Message) -> Any:
            handled.append(message.id)
            raise BoomError

        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            dice = random.Random(f"{seed} {len(handled)}")
            return ErrorAction.RETRY if retry and dice.random() < 0.5 else ErrorAction.ESCALATE

    async def play() -> None:
        clock = ManualClock()
        root = Supervisor("root", [Doomed("d")], max_restarts=max_restarts, backoff_base=0.1)
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as tasks:
            asks = [tasks.create_task(outcome(runtime)) for _ in range(3)]
            await clock.advance(10.0)
            assert [ask.result() for ask in asks] == ["AgentCrashed"] * 3
            assert runtime.alive

    async def outcome(runtime: Runtime) -> str:
        try:
            await ask_from_outside(runtime, "d", None, timeout=60.0)
        except CallError as error:
            return type(error).__name__
        return "a reply"

    asyncio.run(asyncio.wait_for(play(), 30))
    counts = {message_id: handled.count(message_id) for message_id in handled}
    assert set(counts.values()) == {1 + max_restarts}
