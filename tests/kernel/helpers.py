"""Agents and aids that several tests of the kernel share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from portico.kernel.delivery import Delivery
from portico.kernel.messages import DEFAULT_TYPE, Message, Origin
from portico.kernel.process import AgentProcess

if TYPE_CHECKING:
    from portico.kernel.events import EventKind, KernelEvent
    from portico.kernel.runtime import Runtime


class BoomError(Exception):
    """What crashes test agents."""


class Echo(AgentProcess):
    """Replies with what it was sent."""

    async def handle(self, message: Message) -> Any:
        return self.reply(message.payload)


class Fragile(AgentProcess):
    """Crashes on the first `payload` deliveries of a message, then tells which life and which attempt answered."""

    async def handle(self, message: Message) -> Any:
        if message.attempt < message.payload:
            raise BoomError(f"attempt {message.attempt}")
        return {"id": self.id, "attempt": message.attempt}


class Logged(AgentProcess):
    """Writes its starts and stops into a shared log; crashes on the payload `crash`, ends normally never."""

    def __init__(self, name: str, log: list[str], **options: Any) -> None:
        super().__init__(name, **options)
        self.log = log

    async def on_start(self) -> None:
        self.log.append(f"start {self.name}")

    async def on_stop(self) -> None:
        self.log.append(f"stop {self.name}")

    async def handle(self, message: Message) -> Any:
        if message.payload == "crash":
            raise BoomError(self.name)
        return self.id


class Patient(AgentProcess):
    """Waits in its handler until the test opens the gate. Tells when a handler began and when one was cancelled."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.began = asyncio.Event()
        self.gate = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def handle(self, message: Message) -> Any:
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return message.payload


class Deaf(AgentProcess):
    """Ignores its cancellation until the test opens the gate. The events are the test's own, one for all lives."""

    def __init__(self, name: str, began: asyncio.Event, gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, **options)
        self.began = began
        self.gate = gate

    async def handle(self, message: Message) -> Any:
        if message.payload != "block":
            return self.id
        self.began.set()
        while not self.gate.is_set():
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                continue
        return "too late"


class Witness:
    """An observer that remembers every kernel event."""

    def __init__(self) -> None:
        self.events: list[KernelEvent] = []

    def event(self, event: KernelEvent) -> None:
        self.events.append(event)

    def handling(self, message: Message) -> None:
        return None

    def of(self, kind: EventKind) -> list[KernelEvent]:
        """The events of one kind."""
        return [event for event in self.events if event.kind is kind]

    def names(self, kind: EventKind) -> list[str]:
        """The processes of the events of one kind."""
        return [event.name for event in self.of(kind)]


async def ask_from_outside(
    runtime: Runtime, name: str, payload: Any, timeout: float = 5.0, message_type: str = DEFAULT_TYPE
) -> Message:
    """An ask that has an origin, as the dispatcher makes it."""
    deadline = runtime.router.clock.now() + timeout
    message = Message(message_type, payload, recipient=name, deadline=deadline, origin=Origin("call-1", "alice"))
    delivery = Delivery(message, asyncio.get_running_loop().create_future())
    runtime.router.deliver(delivery)
    runtime.router.deadlines.add(delivery)
    assert delivery.future is not None
    return await delivery.future


def agent(runtime: Runtime, name: str) -> Any:
    """The present instance of that name."""
    found = runtime.get_agent(name)
    assert found is not None
    return found
