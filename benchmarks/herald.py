"""The agent of the benchmark of streams: one run stays open, and tells when it is asked to."""

from __future__ import annotations

import asyncio
from typing import Any

from portico import AgentProcess, Context, operation


class Herald(AgentProcess):
    """Has one run in hand that many follow."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.open: Context | None = None

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
