"""TestRuntime: a runtime for tests. Strict, without backoff, and it remembers what happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from portico.errors import Cancelled, UnknownAgent
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.exits import Exit, ExitKind
from portico.kernel.messages import DEFAULT_TYPE, Message, Origin, new_id
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing.events import Collector
from portico.testing.fault_plan import FaultPlan, InjectedCrash

if TYPE_CHECKING:
    from portico.kernel.events import KernelEvent
    from portico.kernel.process import AgentProcess


class TestRuntime(Runtime):
    """`async with TestRuntime(Echo("echo")) as runtime:`.

    Args:
        children: what stands below the root, which restarts at once (`backoff_base=0`).
        supervisor: the root, instead of `children`.
        options: as of `Runtime`; `strict` is on unless said otherwise.
    """

    __test__ = False  # pytest takes classes named so for tests

    def __init__(self, *children: AgentProcess | Supervisor, supervisor: Supervisor | None = None, **options: Any) -> None:
        self._collector = Collector("*")
        self.faults = FaultPlan()
        """What is to go wrong."""
        root = supervisor or Supervisor("root", children, backoff_base=0.0)
        observers = [*options.pop("observers", ()), self._collector]
        settings: dict[str, Any] = {"strict": True, "faults": self.faults, **options, "observers": observers}
        super().__init__(root, **settings)

    @property
    def events(self) -> list[KernelEvent]:
        """Every kernel event so far, the oldest first."""
        return self._collector.events

    def events_of(self, kind: EventKind, name: str | None = None) -> list[KernelEvent]:
        """Those of one kind; `name`: of one process only."""
        return [event for event in self.events if event.kind is kind and name in (None, event.name)]

    @property
    def dead_letters(self) -> list[Message]:
        """The messages that were not delivered (again)."""
        return [event.data["message"] for event in self.events_of(EventKind.DEAD_LETTER)]

    def kill(self, name: str) -> None:
        """End a process's present incarnation as if a task of its own had crashed.

        Raises `UnknownAgent`, also between two lives.
        """
        mailbox = self.router.registry.lookup(name)
        if mailbox.life is None or mailbox.life.outlived:
            raise UnknownAgent(name)
        mailbox.life.end_with(Exit(ExitKind.CRASHED, InjectedCrash(f"{name!r} was killed")))

    async def ask_from_outside(
        self,
        name: str,
        payload: Any,
        timeout: float = 30.0,
        message_type: str = DEFAULT_TYPE,
        *,
        principal: str | None = None,
        address: str | None = None,
    ) -> Message:
        """Ask as a caller of the gateway does: with an origin, which pays for what it crashes. `timeout` in seconds.

        Raises:
            CallError: as it ended.
        """
        clock = self.router.clock
        message = Message(
            message_type,
            payload,
            recipient=name,
            deadline=clock.now() + timeout,
            origin=Origin(new_id(), principal, address),
        )
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        delivery = Delivery(message, future)
        self.router.deliver(delivery)
        self.router.deadlines.add(delivery)
        try:
            return await future
        except asyncio.CancelledError:
            delivery.cancel(Cancelled("Its caller was cancelled."))
            raise
        finally:
            self.router.deadlines.discard(delivery)
