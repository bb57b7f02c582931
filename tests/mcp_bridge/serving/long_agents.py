"""Agents whose calls take long, or wait: until their test says otherwise."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.questions import Question
from portico.operations.decorators import operation


class Confirmed(BaseModel):
    confirm: bool


class Named(BaseModel):
    name: str


class Report(BaseModel):
    text: str


class Worker(AgentProcess):
    """Works until it is told to stop; `began` and `cancelled` tell how it goes."""

    def __init__(self, name: str = "worker") -> None:
        super().__init__(name, concurrency=10)
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.calls = 0

    async def work(self, ctx: Context) -> str:
        self.calls += 1
        ctx.progress(1, 3, "has begun")
        self.began.set()
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        ctx.progress(2, 3, "nearly there")
        return "worked"

    @operation
    async def untyped(self, ctx: Context) -> dict[str, str]:
        return {"said": await self.work(ctx)}

    @operation
    async def typed(self, ctx: Context) -> Report:
        return Report(text=await self.work(ctx))

    @operation(task=True)
    async def job(self, ctx: Context) -> Report:
        return Report(text=await self.work(ctx))

    @operation(task="required")
    async def only_a_task(self, ctx: Context) -> str:
        return await self.work(ctx)

    @operation(task=False)
    async def never_a_task(self, ctx: Context) -> dict[str, str]:
        return {"said": await self.work(ctx)}

    @operation(errors={"no-luck": 409})
    async def fails(self, ctx: Context) -> dict[str, str]:
        await self.work(ctx)
        raise AgentError("no-luck", "It was not to be.")

    @operation(idempotent=False, task=True)
    async def crashes(self) -> str:
        raise RuntimeError("the secret of the house")

    @operation(task=True)
    async def confirm(self, ctx: Context, filename: str = "a.txt") -> str:
        answer = await ctx.wait_input(f"Delete {filename}?", Confirmed)
        return f"deleted {filename}" if answer.confirm else "kept"

    @operation(task=True)
    async def two(self, ctx: Context) -> str:
        names = await ctx.wait_inputs({"first": Question.input("Who?", Named), "second": Question.input("And who?", Named)})
        return f"{names['first'].name} and {names['second'].name}"

    @operation
    async def asks_then_works(self, ctx: Context) -> str:
        answer = await ctx.wait_input("Who are you?", Named)
        return f"{await self.work(ctx)} for {answer.name}"

    @operation
    async def works_then_asks(self, ctx: Context) -> dict[str, str]:
        await ctx.step("work", lambda: self.work(ctx))
        answer = await ctx.wait_input("Who are you?", Named)
        return {"said": f"worked for {answer.name}"}
