"""The agents of the soak: each leaves behind what shows afterwards whether it was done once, twice or never.

Above: `soak.py`, which serves them, kills the server again and again, and compares. Whatever is asked has a `request`, a name that
no other request has. An agent counts it in its state; what it does to the outside is a line of a file, which no roll-back takes
away. Not an example: the handlers stop in between on purpose, so that a kill finds them there.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation

if TYPE_CHECKING:
    from portico.kernel.steps import StepCall

STEPS: Final = "steps.txt"
"""A line for each call of a step's function: run, agent, name, key, attempt."""
PAYMENTS: Final = "payments.txt"
"""A line for each handling of `Cashier.pay` that has begun: run, request."""
SEEN: Final = "seen"
"""Where a state has the requests that were counted, in order."""


def topology(directory: Path) -> dict[str, Any]:
    """The tree of these agents. `directory`: where their files are."""
    kinds: dict[str, type[Witness]] = {
        "worker": Worker,
        "finisher": Finisher,
        "teller": Teller,
        "receiver": Counter,
        "sequence": Counter,
        "counter": Counter,
        "waiter": Waiter,
        "cashier": Cashier,
        "session": Session,
    }
    children: list[dict[str, Any]] = [
        {"type": f"{kind.__module__}.{kind.__qualname__}", "name": name, "config": {"directory": str(directory)}}
        for name, kind in kinds.items()
    ]
    children[-1]["per_key"] = "session"
    return {"supervision": {"name": "root", "backoff_base": 0.01, "children": children}}


class Witness(AgentProcess):
    """What they have in common."""

    def __init__(self, name: str, *, directory: str = ".", **options: Any) -> None:
        super().__init__(name, **options)
        self._directory = Path(directory)

    def count(self, request: str) -> None:
        """Count a request: it is final with the handling's commit."""
        self.state.setdefault(SEEN, []).append(request)

    def write(self, file: str, *words: object) -> None:
        """Append a line at once."""
        descriptor = os.open(self._directory / file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
        finally:
            os.close(descriptor)

    async def called(self, run_id: str, request: str, pause: float, step: StepCall) -> str:
        """The function of a step: leave a line, and return whose it was, with something that is not known before."""
        self.write(STEPS, run_id, self.name, step.name, step.key, step.attempt)
        await self.sleep(pause)
        return f"{request}/{self.name}/{step.name}/{os.getpid()}"


class Counter(Witness):
    """Counts, and does nothing else."""

    @operation
    async def note(self, request: str, ctx: Context, pause: float = 0.0) -> str:
        """Count a request."""
        self.count(request)
        await self.sleep(pause)
        ctx.emit("noted", {"by": self.name, "request": request})
        return request


class Teller(Witness):
    """Is asked by the worker in the middle of its handling."""

    @operation
    async def tell(self, request: str, ctx: Context, pause: float = 0.0) -> dict[str, Any]:
        """Count a request, and say which number it has."""
        self.count(request)
        step = await ctx.step("tell", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("counted", {"request": request})
        return {"number": len(self.state[SEEN]), "step": step}


class Finisher(Witness):
    """Goes on with what the worker has begun, and calls its step as that did."""

    @operation
    async def finish(self, request: str, ctx: Context, pause: float = 0.0) -> dict[str, Any]:
        """Count a request, ask what the worker has asked, and take a step."""
        self.count(request)
        first = await ctx.step("first", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("finished", {"request": request})
        return {"request": request, "first": first, "told": await self.call("teller", {"request": request}, 30.0, "tell")}


class Worker(Witness):
    """Does everything that must not be done twice."""

    @operation
    async def work(self, request: str, ctx: Context, pause: float = 0.0, crash: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  # members of the payload
        """Count, take two steps, emit, send and ask. `crash`: at the first attempt, in the middle."""
        self.count(request)
        first = await ctx.step("first", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("effect", {"request": request})
        await self.send("receiver", {"request": request, "pause": pause / 4}, "note")
        await self.sleep(pause)
        told = await self.call("teller", {"request": request, "pause": pause / 4}, 30.0, "tell")
        if crash and ctx.attempt == 0:
            raise RuntimeError(f"{request} crashes its worker once, on purpose")
        second = await ctx.step("second", partial(self.called, ctx.run_id, request, pause))
        await self.sleep(pause)
        return {"request": request, "first": first, "told": told, "second": second}

    @operation
    async def hand_over(self, request: str, ctx: Context, pause: float = 0.0) -> dict[str, Any]:
        """Count, emit and send, and let the finisher go on."""
        self.count(request)
        await ctx.step("first", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("effect", {"request": request})
        await self.send("receiver", {"request": request}, "note")
        await self.call("teller", {"request": request}, 30.0, "tell")
        ctx.transfer("finisher", {"request": request, "pause": pause}, operation="finish", reason="it is the finisher's turn")


class Waiter(Witness):
    """Has handlers that wait while nobody holds them."""

    @operation
    async def approve(self, request: str, ctx: Context, pause: float = 0.0) -> dict[str, Any]:
        """Take a step, wait for an answer, and go on."""
        first = await ctx.step("first", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("effect", {"request": request})
        answer = await ctx.wait_input("Approve?", {"type": "object", "required": ["approved"]})
        self.count(request)
        await self.send("receiver", {"request": request}, "note")
        await self.sleep(pause)
        return {"request": request, "first": first, "answer": answer}

    @operation
    async def hope(self, request: str, ctx: Context, pause: float = 0.0, seconds: float = 0.5) -> dict[str, Any]:
        """Wait for an answer that nobody gives."""
        await self.sleep(pause)
        answer = await ctx.wait_input("Anybody there?", timeout=seconds, default="nobody")
        self.count(request)
        await ctx.checkpoint({"answer": answer})
        ctx.emit("effect", {"request": request})
        await self.send("receiver", {"request": request}, "note")
        await self.sleep(pause)
        return {"request": request, "answer": answer, "state": await ctx.get_state()}

    @operation
    async def nap(self, request: str, ctx: Context, pause: float = 0.0, seconds: float = 1.1) -> dict[str, Any]:
        """Take a step, and go on after a while."""
        first = await ctx.step("first", partial(self.called, ctx.run_id, request, pause))
        ctx.emit("effect", {"request": request})
        await ctx.sleep(seconds)
        self.count(request)
        await self.send("receiver", {"request": request}, "note")
        return {"request": request, "first": first}


class Cashier(Witness):
    """Does what nobody would forgive a second time."""

    @operation(idempotent=False)
    async def pay(self, request: str, ctx: Context, pause: float = 0.0) -> str:
        """Begin at most once."""
        self.write(PAYMENTS, ctx.run_id, request)
        self.count(request)
        ctx.emit("effect", {"request": request})
        await self.send("receiver", {"request": request}, "note")
        await self.sleep(pause)
        return request


class Session(Witness):
    """One process for each session."""

    @operation
    async def turn(self, session: str, request: str, ctx: Context, pause: float = 0.0) -> dict[str, Any]:
        """Count a request in its session."""
        self.count(request)
        ctx.emit("effect", {"request": request})
        await self.send("receiver", {"request": request}, "note")
        await self.sleep(pause)
        return {"session": session, "request": request}

    @operation
    async def report(self, session: str) -> list[str]:
        """The requests that were counted in a session."""
        del session
        return list(self.kept_state.get(SEEN, []))
