"""Runtime: owns one tree, one registry, one bus. Starts them, answers the outside, stops them within a bound.

Two runtimes can live in one process: nothing here is a module's state. Above: `runs` and every face. Below: supervision.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from portico.errors import DuplicateName, LifecycleError, RuntimeNotStarted, StartError
from portico.kernel.child import Then
from portico.kernel.components import ComponentSet
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.events import EventKind, KernelEvent
from portico.kernel.exits import Ended, Started
from portico.kernel.inbox import Inbox
from portico.kernel.messages import DEFAULT_TYPE, Message
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Services
from portico.kernel.router import Router
from portico.kernel.supervision import Stop
from portico.kernel.supervisor import Supervisor
from portico.kernel.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from types import TracebackType

    from portico.kernel.bus import Subscription
    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Codec, Commit, Faults, Invocable, ModelProvider, Observer, Pricing, StateStore, ToolSet
    from portico.kernel.registry import Registry
    from portico.kernel.supervision import Supervision

logger = logging.getLogger("portico.kernel")

KILL_GRACE = 2.0
"""Seconds that cancelled processes get after `stop_timeout`, before they are given up."""


class Runtime:
    """One supervised tree. `async with Runtime(supervisor=Supervisor("root", children=[…])) as runtime:`.

    Args:
        supervisor: the root of the tree; an empty `Supervisor("root")` where none is given.
        transport: `in_process`.
        serializer: the codec of `strict`.
        model_provider, tool_registry, state_store: what agents find as `self.llm`, `self.tools`, `self.store`.
        components: all of these as one value, instead.
        observers: who sees kernel events and handlings.
        stop_timeout: seconds that the whole tree may take to stop.
        watchdog: seconds that the event loop may stand still before that is told, with the name of who blocks it; None: never.
        faults: what is injected before each handling, for tests of what happens then; see `portico.testing`.
        prices: what models cost, where their providers do not tell; see `portico.llm.prices`.
        sinks: who takes the events of runs and what models took; see `portico.runs.sinks`.
        closing: called after the tree has stopped, the last first: what belongs to this runtime and must be closed.
        strict: round-trip every payload through the codec, so that tests find what would not survive a wire.

    Raises:
        ConfigurationError: an unknown transport.
    """

    def __init__(  # noqa: PLR0917  # the seed's order
        self,
        supervisor: Supervisor | None = None,
        transport: str = "in_process",
        serializer: Codec | None = None,
        model_provider: ModelProvider | None = None,
        tool_registry: ToolSet | None = None,
        state_store: StateStore | None = None,
        components: ComponentSet | None = None,
        *,
        commit: Commit | None = None,
        clock: Clock | None = None,
        observers: list[Observer] | None = None,
        stop_timeout: float = 25.0,
        watchdog: float | None = 1.0,
        faults: Faults | None = None,
        prices: Pricing | None = None,
        sinks: Sequence[object] = (),
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
        strict: bool = False,
    ) -> None:
        parts = components or ComponentSet(transport=transport)
        self.supervisor = supervisor or Supervisor("root")
        self.stop_timeout = stop_timeout
        self._closing = closing
        services = Services(
            llm=model_provider or parts.model_provider,
            prices=prices,
            sinks=tuple(sinks),
            tools=parts.tool_registry if tool_registry is None else tool_registry,  # an empty one may be false
            store=parts.store if state_store is None else state_store,
            commit=commit or parts.commit,
            faults=faults,
            observers=[*(observers or []), *([parts.tracer] if parts.tracer is not None else [])],
        )
        self.services = services
        self.router = Router(self, clock or parts.clock, services, (serializer or parts.serializer) if strict else None)
        self.report: str | None = None
        self.was_started = False
        """Whether it has ever been started."""
        self.watchdog = Watchdog(self.router, watchdog)
        """Notices when the event loop stands still, and counts it."""
        self._inbox = Inbox(self.router.clock)
        self._root: Supervision | None = None
        self._beside: list[_Beside] = []
        self._ready: asyncio.Future[None] | None = None
        self._host: asyncio.Task[None] | None = None
        self._down: asyncio.Event | None = None

    # --- life ---------------------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """Whether it takes messages."""
        return self.router.tasks is not None

    @property
    def ready(self) -> bool:
        """Whether the whole tree has started."""
        return self.started and self._ready is not None and self._ready.done()

    @property
    def alive(self) -> bool:
        """Whether the root supervisor lives; `report` says why where it has ended by itself."""
        return self.started and self.report is None

    async def start(self) -> None:
        """Start the tree, in order. Where it is started, or starting, wait until it has.

        Raises:
            DuplicateName: two processes have one name.
            StartError: a process did not start; what had been started was stopped.
        """
        if self._host is not None:
            if self._ready is not None:
                await asyncio.shield(self._ready)
            return
        self._refuse_duplicates()
        self.report, self.was_started = None, True
        self._inbox = Inbox(self.router.clock)
        self._down = asyncio.Event()
        ready = self._ready = asyncio.get_running_loop().create_future()
        # The one task that no group owns: it opens the group in which every other task of this runtime lives.
        self._host = asyncio.get_running_loop().create_task(self._hold(ready, self._down), name="portico runtime")
        try:
            await ready
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop the tree in reverse order, within `stop_timeout` seconds. Does nothing when it is stopped."""
        host, down = self._host, self._down
        if host is None or down is None:
            return
        self.router.stopping = True
        self._inbox.put(Stop(final=True))
        await down.wait()
        await asyncio.wait({host}, timeout=KILL_GRACE)
        if self._host is not host:
            return  # somebody else stopped it at the same time, and has done the rest
        self._host = None
        for close in reversed(self._closing):
            try:
                await close()
            except Exception:
                logger.exception("%r failed", close)
        if self.services.commit is not None:
            await self.services.commit.close()

    async def wait(self) -> None:
        """Until the tree has ended: by `stop()`, or because the root supervisor gave up (`report` says why)."""
        if self._down is None:
            raise RuntimeNotStarted
        await self._down.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _hold(self, ready: asyncio.Future[None], down: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                self.router.open(tasks)
                try:
                    await self._run_tree(ready)
                    await self._stop_beside()
                finally:
                    self.router.close(self.report or "it was stopped")
                    self.watchdog.stop()
                    down.set()
                raise _TreeEndedError  # what is left in the group (watchers, runs that nobody waits for) is cancelled with it
        except* _TreeEndedError:
            pass
        except* Exception as group:
            logger.exception("the runtime failed", exc_info=group)

    async def _run_tree(self, ready: asyncio.Future[None]) -> None:
        if self.services.commit is not None:
            try:
                self.router.registry.suspensions = dict(await self.services.commit.open())
            except Exception as error:  # noqa: BLE001  # whoever starts it hears of it
                ready.set_exception(error)
                return
        if self.supervisor.spent:
            self.supervisor = self.supervisor.fresh()
        self.supervisor.spent = True
        root = self._root = self.supervisor.supervise(self.router, self._inbox)
        root.spawn()
        event = await self._inbox.get()
        if isinstance(event, Started):
            if not ready.done():
                ready.set_result(None)
            self.watchdog.start()  # only now: a start may import whole libraries
            event = await self._inbox.get()
        if isinstance(event, Stop):
            await self._stop_tree(root)
            root.close_mailboxes("it was stopped")  # where the stop met a root that was giving up, that has not closed them
        elif isinstance(event, Ended):
            self.router.stopping = True
            self.report = event.exit.reason
            root.close_mailboxes(event.exit.told)
            error = event.exit.error
            if not ready.done():
                ready.set_exception(error if isinstance(error, StartError) else StartError(root.name, event.exit.reason))
            else:
                logger.error("the runtime ended: %s", self.report)
                self.router.emit(EventKind.PROCESS_FAILED, root.name, reason=self.report)
        if not ready.done():
            ready.set_exception(StartError(root.name, "it was stopped meanwhile"))

    async def _stop_tree(self, root: Supervision) -> None:
        root.request_stop(final=True)
        event = await self._ended(self.stop_timeout)
        if event is None:
            root.kill()
            event = await self._ended(KILL_GRACE)
        if event is None:
            left = [agent.name for agent in self.all_agents() if agent.status not in ("stopped", "failed")]
            self.report = f"{', '.join(map(repr, left))} did not stop within {self.stop_timeout:g} s"
            logger.error("%s", self.report)

    async def _ended(self, within: float) -> Ended | None:
        return await self._inbox.get(_is_end, self.router.clock.now() + within)

    async def attach(self, supervisor: Supervisor) -> None:
        """Run one more supervisor beside the root: for what an agent brings along at run time, such as an MCP server.

        It stops after the root, so that whoever uses it is gone by then. If it gives up, the root does not.

        Raises:
            RuntimeNotStarted: before `start()`.
            DuplicateName: a process of that name is there.
            StartError: it did not start.
        """
        if self.router.tasks is None:
            raise RuntimeNotStarted
        names = [node.name for node in supervisor.walk()]
        for name in names:
            if self.router.knows(name) and not self._is_over(name):
                raise DuplicateName(name)
        self.router.declared.update(names)
        supervisor.spent = True
        inbox = Inbox(self.router.clock)
        beside = _Beside(supervisor.supervise(self.router, inbox), inbox, asyncio.Event())
        beside.life.spawn()
        try:
            event = await inbox.get()
        except BaseException:
            beside.life.request_stop(final=True)  # whoever wanted it has left; its end is heard like any other
            self._keep(beside)
            raise
        if isinstance(event, Ended):
            self._is_gone(beside, event)
            raise StartError(supervisor.name, event.exit.reason)
        self._keep(beside)

    def _keep(self, beside: _Beside) -> None:
        self._beside.append(beside)
        self.router.start_task(self._mind(beside), f"beside {beside.life.name}")

    async def _mind(self, beside: _Beside) -> None:
        """Until an attached supervisor has ended: then nobody starts it again."""
        event: Ended | None = await beside.inbox.get(_is_end)
        if beside in self._beside:
            self._beside.remove(beside)
        if event is not None:
            self._is_gone(beside, event)
        beside.ended.set()

    def _is_over(self, name: str) -> bool:
        """Whether a name only stands for something attached that has ended for good."""
        mailbox = self.router.registry.get(name)
        over = mailbox is None or mailbox.closed is not None
        return over and name not in self.router.declared and name not in self.router.supervisions

    def _is_gone(self, beside: _Beside, event: Ended) -> None:
        beside.life.close_mailboxes(event.exit.told)
        self.router.declared.difference_update(node.name for node in beside.life.supervisor.walk())

    async def _stop_beside(self) -> None:
        """All within one `stop_timeout`, the last that came first."""
        until = self.router.clock.now() + self.stop_timeout
        for beside in reversed(list(self._beside)):
            beside.life.request_stop(final=True)
            if not await self._has_ended(beside, until):
                beside.life.kill()
                await self._has_ended(beside, self.router.clock.now() + KILL_GRACE)
        self._beside.clear()

    async def _has_ended(self, beside: _Beside, until: float) -> bool:
        timer = self.router.clock.call_at(until, beside.ended.set)
        await beside.ended.wait()
        timer.cancel()
        ended = beside not in self._beside
        if not ended:
            beside.ended.clear()
        return ended

    @property
    def roots(self) -> list[Supervisor]:
        """The root supervisor, and those that were attached."""
        return [self.supervisor, *(beside.life.supervisor for beside in self._beside)]

    def _refuse_duplicates(self) -> None:
        seen: set[str] = set()
        for node in self.supervisor.walk():
            if node.name in seen:
                raise DuplicateName(node.name)
            seen.add(node.name)
        self.router.declared = seen

    # --- messages -----------------------------------------------------------------------------------------------------

    def ask(
        self, name: str, payload: Any, timeout: float = 30.0, message_type: str = DEFAULT_TYPE, *, priority: int = 0
    ) -> Coroutine[Any, Any, Message]:
        """Send and wait for the reply, at most `timeout` seconds. A higher `priority` is handled first.

        Raises:
            RuntimeNotStarted: before `start()`; `RuntimeStopped` after `stop()`.
            CallError: as it ended. See `errors.py`.
        """
        return self.router.call(name, payload, message_type, timeout, "", priority)  # handed on: one coroutine less per ask

    async def send(
        self, name: str, payload: Any, message_type: str = DEFAULT_TYPE, *, priority: int = 0, ttl: float | None = None
    ) -> None:
        """Send one way; after `ttl` seconds it is dropped, where it still waits.

        Raises:
            RuntimeNotStarted, UnknownAgent, MailboxFull, ProcessExited: nothing was sent.
        """
        self.router.send(name, payload, message_type, "", priority, ttl)

    async def call(self, name: str, payload: Any, timeout: float = 5.0, message_type: str = DEFAULT_TYPE) -> Any:
        """Ask and return the reply's payload: GenServer's verb. `message_type`: the operation, where there are several."""
        return (await self.ask(name, payload, timeout, message_type)).payload

    async def cast(self, name: str, payload: Any) -> None:
        """Send to a GenServer's `handle_cast`."""
        await self.send(name, payload, "cast")

    async def broadcast(self, pattern: str, payload: Any, message_type: str = DEFAULT_TYPE) -> list[str]:
        """Send to everybody whose name matches a glob. Returns the names that it reached, as `AgentProcess.broadcast`."""
        return self.router.send_each([box.name for box in self.router.registry.lookup_all(pattern)], payload, message_type)

    def subscribe(self, pattern: str = "*", *, buffer: int = 1000) -> Subscription:
        """Follow the kernel events whose kind matches a glob: `async with runtime.subscribe("process.*") as events:`.

        `buffer`: how many may wait unread before the oldest is lost.
        """
        return self.router.bus.subscribe(pattern, buffer=buffer)

    # --- the tree -----------------------------------------------------------------------------------------------------

    @property
    def registry(self) -> Registry:
        """Who is there, and who can do what."""
        return self.router.registry

    def get_agent(self, name: str) -> AgentProcess | None:
        """The present incarnation of that name, or None."""
        mailbox = self.router.registry.get(name)
        if mailbox is not None and mailbox.life is not None:
            return mailbox.life.process
        return next((agent for agent in self.all_agents() if agent.name == name), None)

    def all_agents(self) -> list[AgentProcess]:
        """Every process of the tree, in start order."""
        return [agent for root in self.roots for agent in root.all_agents()]

    def addressed_agents(self) -> list[AgentProcess]:
        """What callers address, in start order: every process, and one for all those behind a pool's or a keyed agent's name."""
        return [agent for root in self.roots for agent in root.addressed()]

    def find(self, name: str) -> AgentProcess | Supervisor | None:
        """What has that name now: a process, or the supervisor of a pool or a keyed agent, or any other."""
        supervision = self.router.supervisions.get(name)
        return supervision.supervisor if supervision is not None else self.get_agent(name)

    def operations_of(self, name: str) -> Mapping[str, Invocable]:
        """What an agent can be asked, by message type, also where several processes share its name. Empty for an unknown one."""
        found = self.find(name)
        if isinstance(found, Supervisor):
            found = next(iter(found.addressed()), None)
        return found.operations if found is not None else {}

    def print_tree(self) -> str:
        """Print the tree and return what was printed."""
        text = "\n".join(line for root in self.roots for line in self._lines(root, ""))
        print(text)  # noqa: T201  # the method's purpose
        return text

    def _lines(self, node: AgentProcess | Supervisor, indent: str) -> list[str]:
        if isinstance(node, AgentProcess):
            return [f"{indent}[{node.tag}] {node.name} ({node.status.value})"]
        lines = [f"{indent}[{node.tag}] {node.name} ({node.strategy.value})"]
        for child in node.which_children():
            lines += self._lines(child, indent + "  ")
        return lines

    async def spawn(
        self, supervisor_name: str, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any] | None = None
    ) -> str:
        """Add a child to a `DynamicSupervisor`. Raises as `DynamicSupervisor.spawn`."""
        return await self._dynamic(supervisor_name).spawn(agent_class, name, config)

    async def despawn(self, supervisor_name: str, name: str) -> None:
        """End a dynamic child now."""
        await self._dynamic(supervisor_name).despawn(name)

    async def stop_agent(self, supervisor_name: str, name: str, drain: str = "current", timeout: float = 30.0) -> None:
        """End a dynamic child after the message in hand, or after all that wait. Raises as `DynamicSupervisor.stop`."""
        await self._dynamic(supervisor_name).stop(name, drain, timeout)

    async def suspend(self, name: str, reason: str = "") -> None:
        """Let a process take no further message until `resume`: asks are refused with `Suspended`, sends wait.

        The message in hand is finished. Survives restarts of the process, and with a store those of the program.

        Raises `UnknownAgent`.
        """
        self.router.suspend(name, reason)

    async def resume(self, name: str, approver: str = "") -> None:
        """Let a suspended process take messages again. `approver`: who allows it. Raises `UnknownAgent`."""
        self.router.resume(name, approver)

    async def drain(self, name: str, reason: str = "") -> None:
        """Let a process take no new message, handle what waits, and stand suspended then, until `resume`. Does not wait for that.

        What comes meanwhile is refused with `AgentDraining`; what was accepted before, such as a run that waited for its input,
        still comes. A crash does not end it; a kill of the program does, and with a store the process starts suspended then.

        Raises `UnknownAgent`.
        """
        self.router.drain(name, reason)

    async def restart_agent(self, name: str) -> None:
        """Stop a process and start a fresh incarnation; its mailbox is kept, no window is charged.

        Raises:
            LifecycleError: there is no such process.
            StartError: it did not start again. That counts, and is tried again.
        """
        above = self._above(name)
        life = above.child(name).life
        await above.part(name, Then.RESTART, None if life is None else life.shutdown_timeout, drain="current")

    async def replace(self, name: str, agent_class: type[AgentProcess], timeout: float = 30.0) -> None:
        """Replace a process's class under traffic: the mailbox is kept, the old incarnation finishes what it has in hand.

        The new class gets the same constructor arguments, and stands there for every later restart as well. Of a pool, one
        member after another is replaced; of a keyed agent, each process as soon as it has finished.

        Args:
            name: whose.
            agent_class: the new class.
            timeout: seconds that the message in hand may take; then it is cancelled, and handled again by the new class.

        Raises:
            LifecycleError: there is no such process.
            StartError: the new class did not start; the former one is back.
        """
        front = self.router.supervisions.get(name)
        if front is not None:
            await front.replace_all(agent_class, timeout)
        else:
            await self._above(name).part(name, Then.RESTART, timeout, drain="current", kind=agent_class)

    def _above(self, name: str) -> Supervision:
        """The supervisor that a process, or a supervisor, stands below. Raises `LifecycleError`."""
        mailbox, supervision = self.router.registry.get(name), self.router.supervisions.get(name)
        above = supervision.parent if supervision is not None else mailbox.parent if mailbox is not None else None
        if above is None or name not in above.children:
            raise LifecycleError(f"There is no process {name!r} to restart.")
        return above

    def on_crash(self, callback: Callable[[KernelEvent], object]) -> None:
        """Call `callback` for every crash of a process. What it raises is logged and forgotten."""
        self.services.observers.append(_CrashListener(callback))

    def _dynamic(self, name: str) -> DynamicSupervisor:
        supervision = self.router.supervisions.get(name)
        supervisor = supervision.supervisor if supervision is not None else None
        if not isinstance(supervisor, DynamicSupervisor):
            raise LifecycleError(f"There is no DynamicSupervisor {name!r} in this runtime.")
        return supervisor


def _is_end(event: object) -> bool:
    return isinstance(event, Ended)


@dataclass(slots=True, eq=False)
class _Beside:
    """A supervisor that was attached."""

    life: Supervision
    inbox: Inbox
    ended: asyncio.Event


class _TreeEndedError(Exception):
    """Ends the task group of a runtime whose tree has ended."""


class _CrashListener:
    """An observer that hears of crashes only."""

    def __init__(self, callback: Callable[[KernelEvent], object]) -> None:
        self._callback = callback

    def event(self, event: KernelEvent) -> None:
        if event.kind is EventKind.PROCESS_CRASHED:
            self._callback(event)

    def handling(self, message: Message) -> None:
        del message
