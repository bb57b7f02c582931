"""Sends in one process: many to one agent, against a bare mailbox; then a token round a large ring, against a small one."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from bare_mailbox import BareMailbox
from rounds import compared, print_table

from portico import AgentProcess, Message, Runtime, Supervisor

BATCH = 1_000
"""How many are sent before the sender waits until all were handled: what a mailbox holds unless told otherwise."""

BARE = "bare deque and event"
PORTICO = "Runtime.send"


class Sink(AgentProcess):
    """Takes numbers that count down to 0: the last of a batch."""

    def __init__(self, name: str, handled: asyncio.Event) -> None:
        super().__init__(name, mailbox_size=BATCH)
        self.handled = handled

    async def handle(self, message: Message) -> None:
        """Tell when it was the last."""
        if message.payload == 0:
            self.handled.set()


class Link(AgentProcess):
    """Hands a token on, which carries the number of hops that are left."""

    def __init__(self, name: str, following: str, arrived: asyncio.Event) -> None:
        super().__init__(name)
        self.following = following
        self.arrived = arrived

    async def handle(self, message: Message) -> None:
        """Hand it on, or tell that it has arrived."""
        if message.payload == 0:
            self.arrived.set()
        else:
            await self.send(self.following, message.payload - 1)


async def bare(batches: int) -> float:
    """The least: no bound, no names, no supervision."""
    mailbox, handled = BareMailbox(), asyncio.Event()

    async def handle(payload: int) -> None:
        if payload == 0:
            handled.set()

    async def consume() -> None:
        while True:
            await handle(await mailbox.get())

    async with asyncio.TaskGroup() as group:
        consumer = group.create_task(consume())
        begun = time.perf_counter()
        for _ in range(batches):
            for left in reversed(range(BATCH)):
                mailbox.put(left)
            await handled.wait()
            handled.clear()
        figure = batches * BATCH / (time.perf_counter() - begun)
        consumer.cancel()
    return figure


async def portico(batches: int) -> float:
    """The same, sent to an agent."""
    handled = asyncio.Event()
    async with Runtime(Supervisor("root", [Sink("sink", handled)])) as runtime:
        begun = time.perf_counter()
        for _ in range(batches):
            for left in reversed(range(BATCH)):
                await runtime.send("sink", left)
            await handled.wait()
            handled.clear()
        return batches * BATCH / (time.perf_counter() - begun)


async def ring(agents: int, hops: int) -> float:
    """Hops per second of one token."""
    arrived = asyncio.Event()
    links = [Link(f"link-{number}", f"link-{(number + 1) % agents}", arrived) for number in range(agents)]
    async with Runtime(Supervisor("root", links)) as runtime:
        begun = time.perf_counter()
        await runtime.send("link-0", hops)
        await arrived.wait()
        return hops / (time.perf_counter() - begun)


def main(rounds: int = 7, sends: int = 100_000, agents: int = 10_000, hops: int = 100_000) -> bool:
    """Print the tables. Returns whether the targets were met."""
    batches = sends // BATCH
    figures = compared({BARE: lambda: uvloop.run(bare(batches)), PORTICO: lambda: uvloop.run(portico(batches))}, rounds)
    met = print_table(f"One-way sends to one agent, {BATCH:,} at a time", figures, BARE, {PORTICO: 0.4})
    few, many = "2 agents", f"{agents:,} agents"
    figures = compared({few: lambda: uvloop.run(ring(2, hops)), many: lambda: uvloop.run(ring(agents, hops))}, rounds)
    title = f"A token round a ring, {hops:,} hops; 0.90 stands for 'no slower', so much is noise"
    return print_table(title, figures, few, {many: 0.9}) and met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
