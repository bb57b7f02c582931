"""Agents that the live page's tests look at; `topology.yaml` serves them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation, route

if TYPE_CHECKING:
    from portico.kernel.messages import Message

SCRIPT = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">"

SUSPENDS = """
const asked = {method: "POST", headers: {"content-type": "application/json"}, body: "{}"};
fetch("/agents/echo/suspend", asked)
  .then(({status}) => status, () => "refused")
  .then((said) => { document.title = `suspended: ${said}` });
"""
"""What a stranger's script in an agent's reply would try."""


class Echo(AgentProcess):
    """Says what it hears."""

    async def handle(self, message: Message) -> Any:
        return message.payload


class Order(BaseModel):
    """What the baker is asked for."""

    cake: str = Field("Sachertorte", min_length=2, description="Which one.")
    pieces: int = Field(1, ge=1, le=12, description="How many.")


class Baker(AgentProcess):
    """Several operations, each with a contract."""

    @operation
    async def bake(self, ctx: Context, order: Order) -> dict[str, Any]:
        """Bake a cake."""
        for number in range(order.pieces):
            ctx.delta(f"piece {number + 1} ")
        return {"cake": order.cake, "pieces": order.pieces}

    @operation(idempotent=False)
    async def burn(self, what: str = "the cake") -> str:
        """Crash."""
        raise RuntimeError(f"burnt: {what}")


class Slow(AgentProcess):
    """Takes its time."""

    @operation
    async def nap(self, seconds: float = 1.0) -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return "rested"


class Painter(AgentProcess):
    """Answers with a page."""

    @route("GET", "/painter")
    async def paint(self) -> Any:
        """A page whose script asks the gateway, as its own pages do, to suspend an agent."""
        return self.reply(f"<!doctype html><title>painted</title><script>{SUSPENDS}</script>", media_type="text/html")


class Guest(AgentProcess):
    """Comes at run time, under any name."""

    @operation(idempotent=False)
    async def crash(self) -> None:
        """Crash."""
        raise RuntimeError(f"{self.name} crashed")


class Host(AgentProcess):
    """Takes in whoever comes."""

    @operation
    async def invite(self, name: str) -> str:
        """Spawn a guest under a name that a stranger chooses."""
        return await self.spawn(Guest, name, {"expose": True})


class Hostile(AgentProcess):
    """Answers, and crashes, with what no page may believe."""

    @operation
    async def answer(self) -> dict[str, str]:
        """Text that looks like a page, turns round, rings, and never ends."""
        return {"script": SCRIPT, "unseen": "left\u202eright\u0007\u200bend", "long": "x" * 1_048_576}

    @operation(idempotent=False)
    async def crash(self) -> None:
        """Crash with a message of a megabyte."""
        raise RuntimeError(SCRIPT + "\u202eright\u0007" + "y" * 1_048_576)
