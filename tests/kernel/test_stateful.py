"""A machine that does to a random tree what users, clients and bad luck do, in any order, and what must hold all the while.

Hypothesis chooses the tree and the steps. The time is a `ManualClock`'s, so an hour of backoff costs milliseconds, and a case that
failed fails again. What is checked:

- no ask is left without an answer or an error, and none ends after its deadline;
- nothing declared `idempotent=False` is handled twice;
- a message is attempted at most 1 + `max_restarts` times;
- intensity is never exceeded: not more counted restarts within the window than the supervisor allows;
- only steps of the lifecycle's table are taken;
- a stop ends within its bound.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portico import AgentProcess, DynamicSupervisor, Message, Runtime, Supervisor, keyed, operation, pool
from portico.errors import AgentError, CallError, DuplicateName, LifecycleError
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.lifecycle import TRANSITIONS, ProcessStatus
from portico.kernel.messages import Origin
from portico.kernel.runtime import KILL_GRACE
from portico.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from portico.kernel.events import KernelEvent

TIMEOUT = 20.0
STOP_TIMEOUT = 25.0
TICK = 0.011


class BoomError(Exception):
    """What crashes the agents here."""


Payload = dict[str, Any]


class Ledger:
    """What the agents have done, for all their lives."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        """Charged attempts: what is delivered again because a sibling, a link or a restart ended its process pays none."""
        self.once: Counter[str] = Counter()


class Agent(AgentProcess):
    """Does what the message says."""

    def __init__(self, name: str, ledger: Ledger, *, fails: bool = False, **options: Any) -> None:
        super().__init__(name, shutdown_timeout=1.0, **options)
        self.ledger = ledger
        self.fails = fails
        self.deferred: list[Message] = []

    async def on_start(self) -> None:
        if self.fails and self.id.endswith(("#2", "#4")):
            raise BoomError("start")

    async def handle(self, message: Message) -> Any:  # noqa: C901, PLR0912  # one case per thing that can happen
        self.ledger.attempts[message.id] = max(self.ledger.attempts[message.id], message.attempt + 1)
        if self.concurrency == 1:
            self.state["n"] = self.state.get("n", 0) + 1
        payload: Payload = message.payload
        match payload["do"]:
            case "crash":
                raise BoomError("handler")
            case "crash once":
                if message.attempt == 0:
                    raise BoomError("once")
            case "refuse":
                raise AgentError("refused")
            case "wait":
                await self.sleep(payload["seconds"])
            case "nothing":
                return None
            case "ask":
                return (await self.ask(payload["whom"], {"do": payload["then"], "key": "k", "seconds": 3.0}, timeout=5.0)).payload
            case "task":
                self.start_task(self.fail_later(payload["seconds"]))
            case "defer":
                self.deferred.append(message)
                return self.defer()
            case "answer":
                for deferred in self.deferred:
                    self.reply_to(deferred, "late")
                self.deferred.clear()
            case "stay":
                await self.sleep_deaf(payload["seconds"])
            case _:
                pass
        return self.name

    @operation(idempotent=False)
    async def once(self, message: Message) -> str:
        self.ledger.once[message.id] += 1
        await self.sleep(1.0)
        if message.payload["do"] == "crash":
            raise BoomError("once only")
        return self.name

    async def fail_later(self, seconds: float) -> None:
        await self.sleep(seconds)
        raise BoomError("task")

    async def sleep_deaf(self, seconds: float) -> None:
        until = self.router.clock.now() + seconds
        while self.router.clock.now() < until:
            try:
                await self.sleep(until - self.router.clock.now())
            except asyncio.CancelledError:
                continue


class Watcher:
    """An observer that notes restarts by the clock, and every step of every process."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.restarts: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []

    def event(self, event: KernelEvent) -> None:
        if event.kind is EventKind.PROCESS_RESTARTED:
            self.restarts[event.name].append(self.clock.now())
        if event.kind is EventKind.PROCESS_STATUS:
            before, status = ProcessStatus(event.data["before"]), ProcessStatus(event.data["status"])
            if status not in TRANSITIONS[before]:
                self.wrong.append(f"{event.name}: {before} to {status}")

    def handling(self, message: Message) -> None:
        return None


def payload(do: str, **more: Any) -> Payload:
    """What an agent is told to do."""
    return {"do": do, **more}


def told(do: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Payload]:
    """One thing to do, with its particulars."""
    return st.builds(payload, st.just(do), **more)


strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
kinds = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
payloads: st.SearchStrategy[Payload] = st.one_of(
    *(told(do) for do in ("reply", "crash", "crash once", "refuse", "nothing", "defer", "answer")),
    told("wait", seconds=st.sampled_from([0.0, 0.5, 30.0])),
    told("task", seconds=st.sampled_from([0.0, 2.0])),
    told("stay", seconds=st.sampled_from([0.5, 5.0])),
    told(
        "ask",
        whom=st.sampled_from(["a", "b", "c", "many", "crew", "chat", "nobody"]),
        then=st.sampled_from(["reply", "crash", "wait"]),
    ),
)
names = st.sampled_from(["a", "b", "c", "many", "crew", "crew.1", "chat", "d0", "d1"])
processes = st.sampled_from(["a", "b", "c", "many", "crew.1", "crew.2", "d0", "d1"])


class TreeMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.ledger = Ledger()
        self.watcher = Watcher(self.clock)
        self.asks: list[tuple[float, asyncio.Task[float]]] = []
        self.others: list[asyncio.Task[Any]] = []
        self.runtime: Runtime | None = None

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    @initialize(
        outer=strategies,
        inner=strategies,
        restarts=st.integers(0, 4),
        inner_restarts=st.integers(0, 4),
        restart=kinds,
        fails=st.booleans(),
        backoff=st.sampled_from([0.0, 0.5, 3.0]),
    )
    def start(
        self, outer: str, inner: str, restarts: int, inner_restarts: int, restart: str, backoff: float, *, fails: bool
    ) -> None:
        config: dict[str, Any] = {"ledger": self.ledger}
        branch = Supervisor(
            "branch",
            [Agent("b", fails=fails, **config), Agent("c", restart=restart, **config)],
            inner,
            inner_restarts,
            backoff_base=backoff,
        )
        root = Supervisor(
            "root",
            [
                Agent("a", **config),
                branch,
                Agent("many", concurrency=3, **config),
                pool(Agent, "crew", size=2, config=config, max_restarts=inner_restarts, backoff_base=backoff),
                keyed(Agent, "chat", per_key="key", max_keys=2, idle_timeout=10.0, config=config, backoff_base=backoff),
                DynamicSupervisor("dyn", max_children=3, max_restarts=inner_restarts, backoff_base=backoff),
            ],
            outer,
            restarts,
            backoff_base=backoff,
        )
        self.allowed = {"root": restarts, "branch": inner_restarts, "crew": inner_restarts, "chat": 3, "dyn": inner_restarts}
        self.most = 1 + max(self.allowed.values())
        self.runtime = Runtime(root, clock=self.clock, observers=[self.watcher], stop_timeout=STOP_TIMEOUT, watchdog=None)
        self.do(self.runtime.start())

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(name=names, payload=payloads, outside=st.booleans(), operation=st.sampled_from(["message", "message", "once"]))
    def ask(self, name: str, payload: dict[str, Any], operation: str, *, outside: bool) -> None:
        self.asks.append((self.clock.now(), self.loop.create_task(self.end_of(name, dict(payload), operation, outside=outside))))
        self.do(self.clock.advance())

    async def end_of(self, name: str, payload: dict[str, Any], operation: str, *, outside: bool) -> float:
        assert self.runtime is not None
        payload.setdefault("key", "k1" if payload["do"] in ("reply", "crash") else "k2")
        router = self.runtime.router
        origin = Origin("call", "alice") if outside else None
        message = Message(operation, payload, recipient=name, deadline=self.clock.now() + TIMEOUT, origin=origin)
        future: asyncio.Future[Message] = self.loop.create_future()
        try:
            delivery = Delivery(message, future)
            router.deliver(delivery)
            router.deadlines.add(delivery)
            await future
        except (CallError, LifecycleError):
            pass
        return self.clock.now()

    @rule(name=names, payload=payloads)
    def send(self, name: str, payload: dict[str, Any]) -> None:
        assert self.runtime is not None
        with suppress(CallError, LifecycleError):
            self.do(self.runtime.send(name, {**payload, "key": "k3"}))

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 7.0, 25.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.clock.advance(seconds))

    @rule(name=names)
    def suspend(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.suspend(name, "for a while"))

    @rule(name=names)
    def resume(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.resume(name))

    @rule(name=processes)
    def restart(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.restart_agent(name))

    @rule(name=st.sampled_from(["a", "b", "crew", "chat", "d0"]))
    def replace(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.replace(name, type("Another", (Agent,), {}), 5.0))

    @rule(name=st.sampled_from(["d0", "d1", "d2", "a"]))
    def spawn(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.spawn("dyn", Agent, name, {"ledger": self.ledger}))

    @rule(name=st.sampled_from(["d0", "d1"]))
    def despawn(self, name: str) -> None:
        self.attempt(lambda runtime: runtime.despawn("dyn", name))

    @rule(name=st.sampled_from(["d0", "d1"]), drain=st.sampled_from(["current", "all"]))
    def stop_agent(self, name: str, drain: str) -> None:
        self.attempt(lambda runtime: runtime.stop_agent("dyn", name, drain, 5.0))

    @rule(one=processes, other=processes)
    def link(self, one: str, other: str) -> None:
        assert self.runtime is not None
        agent = self.runtime.get_agent(one)
        if agent is not None and agent.status is ProcessStatus.RUNNING and self.runtime.router.registry.has(other):
            agent.link(other)

    def attempt(self, work: Callable[[Runtime], Awaitable[Any]]) -> None:
        """Something that may be refused, and whose end nobody waits for here."""

        async def attempted() -> None:
            assert self.runtime is not None
            with suppress(CallError, LifecycleError, DuplicateName):
                await work(self.runtime)

        self.others.append(self.loop.create_task(attempted()))
        self.do(self.clock.advance())

    # --- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def every_ask_ends_in_time(self) -> None:
        for asked_at, task in self.asks:
            if task.done():
                assert task.result() - asked_at <= TIMEOUT + TICK, "an ask ended after its deadline"
            else:
                assert self.clock.now() - asked_at <= TIMEOUT + TICK, "an ask was left without an end"

    @invariant()
    def nothing_is_handled_too_often(self) -> None:
        assert all(times == 1 for times in self.ledger.once.values()), "not idempotent, and handled twice"
        assert all(times <= self.most for times in self.ledger.attempts.values()), "attempted too often"

    @invariant()
    def only_steps_of_the_table(self) -> None:
        assert self.watcher.wrong == []

    @precondition(lambda self: self.runtime is not None)
    @invariant()
    def intensity_is_never_exceeded(self) -> None:
        assert self.runtime is not None
        for supervision in self.runtime.router.supervisions.values():
            if not supervision.stopping:
                assert supervision.restarts_in_window <= self.allowed[supervision.name]

    def teardown(self) -> None:
        try:
            if self.runtime is not None:
                self.end(self.runtime)
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.do(asyncio.sleep(0.01))
            self.loop.close()

    def end(self, runtime: Runtime) -> None:
        """Every ask has its end, and so has the stop."""
        self.do(self.clock.advance(TIMEOUT + TICK))
        self.every_ask_ends_in_time()
        stopping = self.loop.create_task(runtime.stop())
        self.do(self.clock.advance(STOP_TIMEOUT + 2 * KILL_GRACE))
        assert stopping.done(), "the stop did not end within its bound"
        assert not runtime.started
        assert all(task.done() for task in self.others), "somebody who asked for a change was left without an end"
        for task in self.others:
            task.result()
        self.only_steps_of_the_table()
        self.nothing_is_handled_too_often()


TestTree = TreeMachine.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
