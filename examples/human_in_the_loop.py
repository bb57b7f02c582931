"""A human in the loop, in two ways.

An agent can put its reply off until a person decides: its status is `waiting` then, and it goes on with other messages. If it
crashes meanwhile, what it had put off is delivered again. Or it can suspend itself: then it takes no message until somebody resumes
it; asks are refused with its reason, sends wait.

    python examples/human_in_the_loop.py
"""

from __future__ import annotations

import asyncio
from typing import Any

from portico import AgentProcess, Message, Runtime, Supervisor, operation
from portico.errors import Suspended

CHEAP = 100


class Expenses(AgentProcess):
    """Pays at once what is cheap. What is dear, a person has to approve."""

    async def on_start(self) -> None:
        self.undecided: dict[str, Message] = {}

    @operation
    async def claim(self, item: str, price: int, message: Message, patience: float = 60) -> Any:
        if price <= CHEAP:
            return "paid"
        self.undecided[item] = message
        self.start_task(self.time_out(item, patience))
        return self.defer()

    @operation
    async def decide(self, item: str, verdict: str) -> None:
        if item in self.undecided:
            self.reply_to(self.undecided.pop(item), verdict)

    async def time_out(self, item: str, patience: float) -> None:
        await self.sleep(patience)
        await self.send(self.name, {"item": item, "verdict": "declined, nobody decided in time"}, "decide")

    @operation(read_only=True)
    async def desk(self) -> list[str]:
        return list(self.undecided)


class Deployer(AgentProcess):
    """Prepares a release, and sends it out when somebody has allowed it."""

    @operation
    async def prepare(self, release: str) -> str:
        self.state["release"] = release
        await self.suspend(f"release {release} wants approval")
        return f"release {release} is prepared"

    async def on_resume(self, approver: str) -> None:
        print(f"release {self.state['release']} goes out, {approver} allowed it")


CLAIMS: list[dict[str, Any]] = [
    {"item": "tea", "price": 5},
    {"item": "book", "price": 120},
    {"item": "boat", "price": 90_000},
    {"item": "piano", "price": 8_000, "patience": 0.1},
]


async def expenses(runtime: Runtime) -> None:
    async with runtime.router.bus.subscribe("process.status") as steps, asyncio.TaskGroup() as group:
        asks = [group.create_task(runtime.ask("expenses", claim, message_type="claim")) for claim in CLAIMS]
        step = await anext(steps)
        desk = await runtime.ask("expenses", {}, message_type="desk")
        print(f"expenses are {step.data.data['status']} for a decision on {', '.join(desk.payload)}")
        await runtime.send("expenses", {"item": "book", "verdict": "approved by Ada"}, "decide")
        await runtime.send("expenses", {"item": "boat", "verdict": "declined by Ada"}, "decide")
    for claim, ask in zip(CLAIMS, asks, strict=True):
        print(f"  {claim['item']}: {ask.result().payload}")


async def releases(runtime: Runtime) -> None:
    print((await runtime.ask("deployer", {"release": "1.4"}, message_type="prepare")).payload)
    try:
        await runtime.ask("deployer", {"release": "1.5"}, message_type="prepare")
    except Suspended as refused:
        print(refused)
    await runtime.resume("deployer", approver="Ada")
    print((await runtime.ask("deployer", {"release": "1.5"}, message_type="prepare")).payload)


async def main() -> None:
    async with Runtime(supervisor=Supervisor("root", [Expenses("expenses"), Deployer("deployer")])) as runtime:
        await expenses(runtime)
        await releases(runtime)


if __name__ == "__main__":
    asyncio.run(main())
