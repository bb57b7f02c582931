"""The agent of the durable benchmarks that has much to tell: a run of it has as many events as it is asked for."""

from __future__ import annotations

import asyncio

from portico import AgentProcess, Context, operation


class Narrator(AgentProcess):
    """Emits events of some forty bytes."""

    @operation
    async def narrate(self, events: int, ctx: Context) -> int:
        """Emit so many, and let others have their turn now and then."""
        for number in range(events):
            ctx.emit("word", {"number": number, "text": "once upon a time"})
            if number % 100 == 0:
                await asyncio.sleep(0)
        return events
