"""Asks in one process, against the least that an ask could be: a queue, a future, and a task that answers."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import uvloop
from rounds import compared, print_table

from portico import AgentProcess, Message, Runtime, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAYLOAD = {"text": "hello"}


class Echo(AgentProcess):
    """Answers with what it is told."""

    async def handle(self, message: Message) -> Message:
        """Answer."""
        return self.reply({"echo": message.payload["text"]})


async def rate(ask: Callable[[], Awaitable[Any]], callers: int, asks: int) -> float:
    """Asks per second with so many callers at once."""

    async def caller() -> None:
        for _ in range(asks // callers):
            await ask()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return asks / (time.perf_counter() - begun)


async def bare(callers: int, asks: int) -> float:
    """The least: no deadline, no bound, no supervision."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[dict[str, str], asyncio.Future[dict[str, str]]]] = asyncio.Queue()

    async def answer() -> None:
        while True:
            payload, future = await queue.get()
            future.set_result({"echo": payload["text"]})

    async def ask() -> dict[str, str]:
        future: asyncio.Future[dict[str, str]] = loop.create_future()
        queue.put_nowait((PAYLOAD, future))
        return await future

    async with asyncio.TaskGroup() as group:
        worker = group.create_task(answer())
        figure = await rate(ask, callers, asks)
        worker.cancel()
    return figure


async def portico(callers: int, asks: int) -> float:
    """An ask with everything: mailbox bound, deadline, supervision, state."""
    async with Runtime(Supervisor("root", [Echo("echo")])) as runtime:
        return await rate(lambda: runtime.ask("echo", PAYLOAD), callers, asks)


def main(rounds: int = 7, asks: int = 64_000) -> bool:
    """Print the table. Returns whether the targets were met."""
    met = True
    for callers in (1, 32):
        figures = compared(
            {
                "bare queue and future": lambda callers=callers: uvloop.run(bare(callers, asks)),
                "Runtime.ask, deadline 30 s": lambda callers=callers: uvloop.run(portico(callers, asks)),
            },
            rounds,
        )
        title = f"In-process asks, {callers} caller{'s' if callers > 1 else ''}"
        met &= print_table(title, figures, "bare queue and future", {"Runtime.ask, deadline 30 s": 0.35})
    return met


if __name__ == "__main__":
    main()
