"""The agents of the demo: each shows one thing that Portico does, without any key or network."""

from __future__ import annotations

import random

from pydantic import BaseModel, Field

from portico import AgentProcess, Context, GenServer, Message, operation, route

CHEAP = 100
"""Francs that need nobody's approval."""


class Words(BaseModel):
    """What the echo is asked."""

    text: str = Field(description="What to say back.", examples=["hello"])
    times: int = Field(1, ge=1, le=10, description="How often.")


class Echoed(BaseModel):
    """What the echo answers."""

    echo: str


class Echo(AgentProcess):
    """Says back what it is told. Its contract is read from the type hints."""

    @route("POST", "/echo/{text}")
    @operation(idempotent=True, read_only=True)
    async def echo(self, request: Words) -> Echoed:
        """Say a text back, once or several times."""
        return Echoed(echo=" ".join([request.text] * request.times))


class Counter(GenServer):
    """Counts. Its state survives crashes, since it is committed with every reply.

    Ask `{"add": 2}` to count, `{}` to look; send the same to `/cast` when nobody waits.
    """

    async def handle_call(self, payload: dict[str, int], from_: Message) -> dict[str, int]:
        """Count and answer."""
        self._count(payload)
        return {"count": self.state["count"]}

    async def handle_cast(self, payload: dict[str, int]) -> None:
        """Count without an answer."""
        self._count(payload)

    def _count(self, payload: dict[str, int]) -> None:
        self.state["count"] = self.state.get("count", 0) + payload.get("add", 0)


class Question(BaseModel):
    """What the flaky agent is asked."""

    number: int = Field(0, description="Any number.", examples=[21])


class Answer(BaseModel):
    """What it answers."""

    double: int
    crashes: int = Field(description="How often it has crashed so far.")


class Flaky(AgentProcess):
    """Crashes in one handling of ten, on purpose. Its callers never see it: the ask is delivered again after the restart.

    Args:
        name: its name.
        seed: makes the crashes the same every time.
        rate: how many handlings of one crash.
    """

    def __init__(self, name: str, seed: int = 7, rate: float = 0.1) -> None:
        super().__init__(name)
        self.seed = seed
        self.rate = rate

    async def on_start(self) -> None:
        """Each incarnation rolls dice of its own."""
        self.dice = random.Random(f"{self.seed}/{self.id}")  # no secret hangs on it

    @operation(idempotent=True)
    async def double(self, request: Question) -> Answer:
        """Double a number, or crash."""
        if self.dice.random() < self.rate:
            raise RuntimeError("crashed on purpose")
        return Answer(double=2 * request.number, crashes=int(self.id.rpartition("#")[2]) - 1)


class Report(BaseModel):
    """What the worker reports when it is done."""

    steps: int
    note: str


class Worker(AgentProcess):
    """Works for a while, and says how far it is: follow its run, or ask with `Accept: text/event-stream`."""

    @operation
    async def work(self, ctx: Context, steps: int = Field(5, ge=1, le=1000), pause: float = Field(0.2, ge=0, le=10)) -> Report:
        """Take some steps, with a pause (seconds) before each."""
        for step in range(1, steps + 1):
            await self.sleep(pause)
            ctx.progress(step, steps, f"step {step}")
        return Report(steps=steps, note="done")


class Verdict(BaseModel):
    """What a person decides."""

    approved: bool = Field(description="Whether it is paid.")
    by: str = Field(description="Who says so.", examples=["Ada"])


class Decision(BaseModel):
    """What becomes of a claim."""

    paid: bool
    note: str


class Clerk(AgentProcess):
    """Pays at once what costs up to 100 francs. What is dearer, a person has to approve: its run waits, and the clerk does not."""

    @operation
    async def claim(self, ctx: Context, item: str, price: int = Field(ge=1, description="In francs.")) -> Decision:
        """Pay for something, when somebody has allowed it."""
        if price <= CHEAP:
            return Decision(paid=True, note="it is cheap")
        verdict: Verdict | None = await ctx.wait_input(f"{item} for {price} francs?", Verdict, timeout=3600, default=None)
        if verdict is None:
            return Decision(paid=False, note="nobody decided in time")
        return Decision(paid=verdict.approved, note=f"{'approved' if verdict.approved else 'declined'} by {verdict.by}")


class Notes(BaseModel):
    """What a visitor has noted."""

    notes: list[str]


class Notebook(AgentProcess):
    """Keeps the notes of one visitor. Each visitor has a process of its own, which is made on first use."""

    @operation
    async def note(self, visitor: str = Field(min_length=1, max_length=100), text: str | None = None) -> Notes:
        """Note a text, or only look."""
        notes: list[str] = [*self.state.get("notes", []), *([text] if text is not None else [])][-20:]
        self.state["notes"] = notes
        return Notes(notes=notes)
