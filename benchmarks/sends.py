"""Sends in one process: many to one agent, against a bare mailbox; then a token round a large ring, against a small one."""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from bare_mailbox import BareMailbox
from rounds import compared, print_table

from portico import AgentProcess, Message, Runtime, Supervisor

BATCHES = (1, 32, 1_000)
"""How many are sent before the sender waits until all were handled. 1,000 are what a mailbox holds unless told otherwise."""

BARE = "bare deque and event"
PORTICO = "Runtime.send"


class Sink(AgentProcess):
    """Takes numbers that count down to 0: the last of a batch."""

    def __init__(self, name: str, handled: asyncio.Event) -> None:
        super().__init__(name, mailbox_size=max(BATCHES))
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


async def bare(batch: int, batches: int) -> float:
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
            for left in reversed(range(batch)):
                mailbox.put(left)
            await handled.wait()
            handled.clear()
        figure = batches * batch / (time.perf_counter() - begun)
        consumer.cancel()
    return figure


async def portico(batch: int, batches: int) -> float:
    """The same, sent to an agent."""
    handled = asyncio.Event()
    async with Runtime(Supervisor("root", [Sink("sink", handled)])) as runtime:
        begun = time.perf_counter()
        for _ in range(batches):
            for left in reversed(range(batch)):
                await runtime.send("sink", left)
            await handled.wait()
            handled.clear()
        return batches * batch / (time.perf_counter() - begun)


async def ring(agents: int, hops: int) -> float:
    """Hops per second of one token."""
    arrived = asyncio.Event()
    links = [Link(f"link-{number}", f"link-{(number + 1) % agents}", arrived) for number in range(agents)]
    async with Runtime(Supervisor("root", links)) as runtime:
        begun = time.perf_counter()
        await runtime.send("link-0", hops)
        await arrived.wait()
        return hops / (time.perf_counter() - begun)


async def bare_ring(mailboxes: int, hops: int) -> float:
    """The same with bare mailboxes: what so many tasks cost the machine's caches, whoever owns them."""
    ring_of, arrived = [BareMailbox() for _ in range(mailboxes)], asyncio.Event()

    async def live(number: int) -> None:
        following = ring_of[(number + 1) % mailboxes]
        while True:
            left = await ring_of[number].get()
            if left == 0:
                arrived.set()
            else:
                following.put(left - 1)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(live(number)) for number in range(mailboxes)]
        begun = time.perf_counter()
        ring_of[0].put(hops)
        await arrived.wait()
        figure = hops / (time.perf_counter() - begun)
        for task in tasks:
            task.cancel()
    return figure


def main(rounds: int = 7, sends: int = 64_000, agents: int = 10_000, hops: int = 100_000) -> bool:
    """Print the tables. Returns whether the targets were met."""
    met = True
    for batch in BATCHES:
        batches = sends // batch
        measured = {
            BARE: lambda batch=batch, batches=batches: uvloop.run(bare(batch, batches)),
            PORTICO: lambda batch=batch, batches=batches: uvloop.run(portico(batch, batches)),
        }
        met &= print_table(f"One-way sends to one agent, {batch:,} at a time", compared(measured, rounds), BARE, {PORTICO: 0.4})
    few, many, few_bare, many_bare = "2 agents", f"{agents:,} agents", "2 bare mailboxes", f"{agents:,} bare mailboxes"
    figures = compared(
        {
            few_bare: lambda: uvloop.run(bare_ring(2, hops)),
            many_bare: lambda: uvloop.run(bare_ring(agents, hops)),
            few: lambda: uvloop.run(ring(2, hops)),
            many: lambda: uvloop.run(ring(agents, hops)),
        },
        rounds,
    )
    print_table(
        "A token round a bare ring: what the machine's caches take", {n: figures[n] for n in (few_bare, many_bare)}, few_bare, {}
    )
    slower = sorted(many / few for many, few in zip(figures[many_bare], figures[few_bare], strict=True))[rounds // 2]
    title = f"A token round a ring, {hops:,} hops; no slower than the bare ring becomes"
    return print_table(title, {name: figures[name] for name in (few, many)}, few, {many: round(slower, 2)}) and met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
