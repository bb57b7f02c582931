"""Idle agents, 100,000 in one process unless told otherwise: `idle.py [AGENTS]`. What one holds, and how fast they are spawned.

Beside them stands a bare mailbox per agent, and a task that waits at it. Each measurement has a fresh process, so that memory is
clean.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop
from bare_mailbox import BareMailbox
from machine import pace
from memory import resident
from rounds import Bounds, compared, print_table

from portico import AgentProcess, DynamicSupervisor, Runtime, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

BARE = "bare mailbox and task"
PORTICO = "DynamicSupervisor.spawn"
WARMING = 100
"""Agents before those that count: what only the first ones cost is none of theirs."""


class Idle(AgentProcess):
    """Does nothing."""


class Cost(NamedTuple):
    """What the agents of one process cost."""

    rate: float
    """Spawned per second."""
    memory: float
    """KiB each."""


async def cost(spawn: Callable[[int], Awaitable[object]], agents: int) -> Cost:
    """Spawn one after the other, with the garbage collector as Python comes."""
    for number in range(WARMING):
        await spawn(number)
    gc.collect()
    before = resident(os.getpid())
    begun = time.perf_counter()
    for number in range(WARMING, WARMING + agents):
        await spawn(number)
    taken = time.perf_counter() - begun
    gc.collect()
    return Cost(agents / taken, (resident(os.getpid()) - before) / agents)


async def bare(agents: int) -> Cost:
    """The least: no bound, no name, no supervision."""
    tasks: list[asyncio.Task[None]] = []

    async def live() -> None:
        mailbox = BareMailbox()
        while True:
            await mailbox.get()

    async with asyncio.TaskGroup() as group:

        async def spawn(_: int) -> None:
            tasks.append(group.create_task(live()))
            await asyncio.sleep(0)  # until it waits

        figures = await cost(spawn, agents)
        for task in tasks:
            task.cancel()
    return figures


async def portico(agents: int) -> Cost:
    """The same with agents."""
    crowd = DynamicSupervisor("crowd")
    async with Runtime(Supervisor("root", [crowd])):
        return await cost(lambda number: crowd.spawn(Idle, f"idle-{number}"), agents)


def run(measure: Callable[[int], Coroutine[Any, Any, Cost]], agents: int) -> Cost:
    """Measure in this process."""
    return uvloop.run(measure(agents))


def apart(measure: Callable[[int], Coroutine[Any, Any, Cost]], agents: int) -> Cost:
    """Measure in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run, measure, agents).result()


def main(rounds: int = 3, agents: int = 100_000) -> bool:
    """Print the tables. Returns whether the targets were met."""
    costs = compared({BARE: lambda: apart(bare, agents), PORTICO: lambda: apart(portico, agents)}, rounds)
    rates = {name: [cost.rate for cost in values] for name, values in costs.items()}
    memory = {name: [cost.memory for cost in values] for name, values in costs.items()}
    title = f"Idle agents, {agents:,} in one process:"
    met = print_table(f"{title} spawned, one after the other", rates, BARE, {PORTICO: Bounds(least=20_000 * pace())})
    return print_table(f"{title} memory of each", memory, BARE, {PORTICO: Bounds(most=6)}, " KiB") and met


if __name__ == "__main__":
    sys.exit(0 if main(agents=int(sys.argv[1]) if len(sys.argv) > 1 else 100_000) else 1)
