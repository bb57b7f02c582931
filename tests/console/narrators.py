"""Agents whose runs have much to tell: the console's tests look at them. `narrators.yaml` serves them."""

from __future__ import annotations

import asyncio
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.questions import Question
from portico.operations.decorators import operation

SCRIPT = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">"
UNSEEN = "left\u202eright\u0007\u200bend"


class Size(StrEnum):
    """How large."""

    SMALL = "small"
    LARGE = "large"


class Card(BaseModel):
    """Paid by card."""

    kind: Literal["card"]
    number: str = Field(min_length=4, description="The last digits are enough.")


class Cash(BaseModel):
    """Paid in cash."""

    kind: Literal["cash"]
    change: bool = False


class Line(BaseModel):
    """One line of an order."""

    cake: str
    pieces: int = Field(1, ge=1, le=100)


class Decision(BaseModel):
    """What somebody decides about an order."""

    approved: bool = Field(description="Whether it is baked at all.")
    size: Size = Size.SMALL
    pieces: int = Field(12, ge=1, le=100, description="How many pieces it is cut into.")
    discount: float | None = Field(None, ge=0, le=1)
    day: date
    note: str = Field("", max_length=500)
    payment: Annotated[Card | Cash, Field(discriminator="kind")]
    more: list[Line] = []


def _is_there(name: str) -> bool:
    return Path(name).exists()


class Storyteller(AgentProcess):
    """Tells all kinds of things."""

    @operation
    async def tell(self, ctx: Context, pieces: int = 8, what: str = "a story") -> dict[str, object]:
        """Steps, tool calls, model calls, logs, pieces of text, progress."""
        await ctx.step("prepare", lambda: {"ready": True})
        ctx.log("info", "Beginning", logger="storyteller")
        ctx.emit("tool.call", {"id": "1", "name": "search", "arguments": {"words": what, "limit": 3}})
        ctx.emit(
            "tool.result",
            {"id": "1", "name": "search", "result": {"found": [{"title": f"Book {n}", "pages": n * 100} for n in range(6)]}},
        )
        ctx.emit(
            "tool.sampled", {"name": "search", "model": "gpt-4.1-mini", "tokens_in": 820, "tokens_out": 112, "cost_usd": 0.00051}
        )
        ctx.log("warning", {"shelf": 3, "missing": "page 12"})
        for number in range(pieces):
            ctx.delta(f"Once upon a time, sentence {number}. ")
            ctx.progress(number + 1, pieces, f"sentence {number + 1}")
            await asyncio.sleep(0)
        ctx.emit("assistant.message", {"content": "And they lived happily.\nThe end."})
        ctx.emit("storyteller.mood", {"mood": "calm"})
        return {"story": what, "sentences": pieces}

    @operation
    async def hostile(self, ctx: Context, text: str = SCRIPT) -> str:
        """The same text everywhere."""
        ctx.log("error", text, logger=text)
        ctx.emit(text.replace("\n", " "), {text: text})
        ctx.emit("tool.call", {"id": text, "name": text, "arguments": {text: text}})
        ctx.emit("tool.result", {"id": text, "name": text, "error": text})
        ctx.emit("tool.refused", {"name": text, "reason": text})
        ctx.delta(text)
        ctx.progress(1, 2, text)
        ctx.emit("progress", {"done": 1, "total": 2, "note": text, "ref": text, "key": text})
        ctx.emit("assistant.message", {"content": text})
        return text

    @operation
    async def long(self) -> str:
        """More than anybody reads."""
        return "x" * 1024 * 1024


class Baker(AgentProcess):
    """Asks before it bakes."""

    @operation
    async def bake(self, cake: str, ctx: Context) -> str:
        """One question with many fields."""
        decision = await ctx.wait_input(f"Bake {cake}?", Decision)
        return f"{cake} in {decision.pieces} pieces: {'baked' if decision.approved else 'not wanted'}"

    @operation
    async def sure(self, cake: str, ctx: Context) -> str:
        """One question, yes or no."""
        return "baked" if await ctx.wait_input(f"Really bake {cake}?", bool) else "not baked"

    @operation
    async def in_turn(self, cake: str, ctx: Context) -> list[object]:
        """One question after another, the first two alike."""
        sure = [await ctx.wait_input(f"Really bake {cake}?", bool) for _ in range(2)]
        decision = await ctx.wait_input(f"How is {cake} baked?", Decision)
        return [*sure, decision.pieces]

    @operation
    async def several(self, ctx: Context) -> dict[str, object]:
        """Several at once."""
        answers = await ctx.wait_inputs(
            {
                "who": Question.input("Who eats it?", {"type": "string", "minLength": 2}),
                "paid": Question.visit("https://pay.example/invoice/12", "Pay the invoice."),
            }
        )
        return dict(answers)


class Patient(AgentProcess):
    """Goes on while a file is not there."""

    @operation
    async def count(self, ctx: Context, until: str) -> str:
        """Tells a number now and then, until there is a file of that name."""
        number = await ctx.get_state() or 0
        while not _is_there(until):
            number += 1
            ctx.emit("number", {"number": number})
            await ctx.checkpoint(number)
            await asyncio.sleep(0.05)
        return f"counted to {number}"

    @operation
    async def told(self, ctx: Context, until: str) -> str:
        """The same, once somebody has said so."""
        await ctx.wait_input("Begin?", bool)
        return await self.count(ctx, until)


class Flaky(AgentProcess):
    """Crashes while a file is there."""

    @operation
    async def double(self, number: int) -> int:
        """Twice the number, or a crash."""
        if _is_there("broken"):
            raise RuntimeError(f"the machine is broken, at {number}")
        return 2 * number


class Parent(AgentProcess):
    """Sends work to others."""

    @operation
    async def spread(self, ctx: Context, count: int = 3) -> int:
        """Each becomes a run of its own."""
        for number in range(count):
            await self.send("storyteller", {"what": f"child {number}"}, "tell")
        return count
