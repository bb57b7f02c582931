"""The agents that the tests of the HTTP face call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable  # noqa: TC003  # type hints become contracts
from typing import Any

from pydantic import BaseModel, Field

from portico.errors import AgentError
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation, route


class Words(BaseModel):
    text: str
    times: int = Field(1, ge=1, le=10)


class Echoed(BaseModel):
    echo: str


class Echo(AgentProcess):
    """Says back what it is told."""

    handled = 0

    @operation
    async def echo(self, request: Words) -> Echoed:
        """Say it back."""
        type(self).handled += 1
        return Echoed(echo=" ".join([request.text] * request.times))


class Mirror(AgentProcess):
    """Gives back the message as it came."""

    async def handle(self, message: Message) -> Any:
        return {
            "type": message.type,
            "payload": message.payload,
            "sender": message.sender,
            "traceparent": message.traceparent,
            "attempt": message.attempt,
        }


class Replies(AgentProcess):
    """Answers with whatever the test says."""

    answer: Any = None

    async def handle(self, message: Message) -> Any:
        hints = getattr(self, "hints", None)
        return self.reply(self.answer, **hints) if hints else self.answer


class Errors(AgentProcess):
    @operation(errors={"sold-out": 409})
    async def buy(self, item: str) -> str:
        raise AgentError("sold-out", f"No {item} left.", left=0)

    @operation
    async def teapot(self) -> str:
        raise AgentError("teapot", "Short and stout.", status=418)

    @operation
    async def silence(self) -> int:
        return None  # pyright: ignore[reportReturnType]  # the point of it

    @operation
    async def lie(self) -> int:
        return "seven"  # pyright: ignore[reportReturnType]  # the point of it

    @operation
    async def quiet(self) -> None:
        """Nothing to say."""

    @operation
    async def maybe(self) -> int | None:
        return None


class Crashing(AgentProcess):
    @operation(idempotent=False)
    async def once(self) -> str:
        raise RuntimeError("the secret of the house")

    @operation
    async def always(self) -> str:
        raise RuntimeError("the secret of the house")

    @operation
    async def at_first(self, message: Message) -> str:
        if message.attempt == 0:
            raise RuntimeError("not yet")
        return "now"


class Slow(AgentProcess):
    """Waits until it is told to go on; remembers how it ended."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.count = 0

    async def _wait(self) -> str:
        self.count += 1
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"

    @operation
    async def wait(self) -> str:
        return await self._wait()

    @route("POST", "/patient", on_disconnect="continue")
    @operation
    async def patiently(self) -> str:
        return await self._wait()

    @route("POST", "/impatient", on_disconnect="cancel")
    @operation
    async def impatiently(self) -> str:
        return await self._wait()

    @route("POST", "/hasty", timeout=0.05)
    @operation
    async def hastily(self) -> str:
        return await self._wait()


class Teller(AgentProcess):
    """Tells events."""

    @operation
    async def tell(self, ctx: Context, upto: int = 3) -> str:
        for number in range(1, upto + 1):
            ctx.progress(number, upto, f"step {number}")
        return "told"

    @operation
    async def odd(self, ctx: Context) -> str:
        ctx.emit("two\r\nlines", {"raw": b"\xff\x00", "not": float("nan")})
        return "odd"

    @operation(idempotent=False)
    async def fail_late(self, ctx: Context) -> str:
        ctx.progress(1, 2)
        raise RuntimeError("the secret of the house")


class Flood(AgentProcess):
    """Tells more than anybody reads: 50 MB."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.over = asyncio.Event()

    @operation
    async def flood(self, ctx: Context) -> str:
        for _ in range(1000):
            ctx.delta("x" * 50_000)
            await asyncio.sleep(0)
        self.over.set()
        return "over"


class Chain(AgentProcess):
    """Waits for somebody else: another agent, or a tool."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.cancelled = asyncio.Event()

    @operation
    async def nested(self) -> Any:
        return await self._noticing(self.ask("slow", {}, "wait"))

    @operation
    async def tool(self, name: str) -> Any:
        return await self._noticing(self.tools.get(name).execute())

    async def _noticing(self, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
