"""Asks in one process, against the least that an ask could be: a queue, a future, and a task that answers.

Beside it stand the actors of pykka, which are threads.
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pykka
import uvloop
from rounds import compared, print_table

from portico import AgentProcess, Message, Runtime, Supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAYLOAD = {"text": "hello"}
DEADLINE = 30.0
"""Seconds: the default of an ask."""

BARE = "bare queue and future"
PYKKA = "pykka, timeout 30 s"
PORTICO = "Runtime.ask, deadline 30 s"


class Echo(AgentProcess):
    """Answers with what it is told."""

    async def handle(self, message: Message) -> Message:
        """Answer."""
        return self.reply({"echo": message.payload["text"]})


class ThreadEcho(pykka.ThreadingActor):
    """The same as an actor of pykka."""

    def on_receive(self, message: dict[str, str]) -> dict[str, str]:
        """Answer."""
        return {"echo": message["text"]}


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
        return await rate(lambda: runtime.ask("echo", PAYLOAD, DEADLINE), callers, asks)


def threads(callers: int, asks: int) -> float:
    """Asks per second of an actor of pykka. Each caller is a thread, as pykka has it."""
    actor = ThreadEcho.start()

    def caller(_: int) -> None:
        for _ in range(asks // callers):
            actor.ask(PAYLOAD, timeout=DEADLINE)

    try:
        with ThreadPoolExecutor(callers) as pool:
            begun = time.perf_counter()
            list(pool.map(caller, range(callers)))
            return asks / (time.perf_counter() - begun)
    finally:
        actor.stop()


def main(rounds: int = 7, asks: int = 64_000) -> bool:
    """Print the tables. Returns whether the targets were met."""
    met = True
    for callers, least in ((1, 0.5), (32, 0.4)):
        figures = compared(
            {
                BARE: lambda callers=callers: uvloop.run(bare(callers, asks)),
                PYKKA: lambda callers=callers: threads(callers, asks // 8),
                PORTICO: lambda callers=callers: uvloop.run(portico(callers, asks)),
            },
            rounds,
        )
        for peer, ratio in ((BARE, least), (PYKKA, 2.0)):
            title = f"In-process asks, callers: {callers}, against {peer}"
            met &= print_table(title, {name: figures[name] for name in (peer, PORTICO)}, peer, {PORTICO: ratio})
    return met


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
