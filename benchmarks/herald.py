"""The agents of the benchmarks of streams and of disconnects: a run stays open, and tells when it is asked, or when it ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from portico import AgentProcess, Context, operation


class Herald(AgentProcess):
    """Has one run in hand that many follow."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.open: Context | None = None
        self.staying = False
        self.ends: asyncio.Queue[float] = asyncio.Queue()

    @operation
    async def hold(self, ctx: Context) -> str:
        """Stay open."""
        self.open = ctx
        await asyncio.Event().wait()
        return "never"

    @operation
    async def doze(self, ctx: Context) -> str:
        """Stay open with nothing in hand, until somebody answers."""
        return await ctx.wait_input("Go on?")

    @operation
    async def tell(self) -> bool:
        """Have the open run tell something."""
        if self.open is not None:
            self.open.emit("news", {"text": "once upon a time"})
        return self.open is not None

    @operation
    async def rest(self, seconds: float) -> str:
        """Reply after a while."""
        await asyncio.sleep(seconds)
        return "rested"

    @operation
    async def stay(self) -> str:
        """Stay until the caller leaves."""
        self.staying = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.staying = False
            self.ends.put_nowait(time.monotonic())
            raise
        return "never"

    @operation
    async def begun(self) -> bool:
        """Whether somebody stays."""
        return self.staying

    @operation
    async def cancelled(self) -> float:
        """When the last of them was cancelled: seconds of the monotonic clock."""
        return await self.ends.get()


class Crier(AgentProcess):
    """Asks the herald."""

    @operation
    async def stay(self) -> Any:
        """Stay with it."""
        return (await self.ask("herald", {}, "stay")).payload
