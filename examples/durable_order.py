"""An order that survives a crash: steps, an approval, a transfer to another agent, and one payment, whatever happens in between.

The payment service is somebody else's: Portico cannot take back what was done there. So the payment is a step, and the step hands
on its key. Here the agent crashes at the worst place: the service has taken the money, and its answer is not stored yet. The step
is called again, with the same key, and the service sees that it has done this before. Once the answer is stored, the step is not
called any more, though the handler begins anew when the approval has come.

    python examples/durable_order.py
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from typing import TYPE_CHECKING

from portico import AgentProcess, Context, Runtime, Supervisor, operation
from portico.runs.call import Call
from portico.runs.dispatcher import Dispatcher

if TYPE_CHECKING:
    from portico.kernel.steps import StepCall


class PaymentService:
    """Somebody else's. It takes each key once, and answers a repeat as the first time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.taken: dict[str, int] = {}

    async def charge(self, amount: int, key: str) -> str:
        self.asked.append(key)
        self.taken.setdefault(key, amount)
        return f"receipt {list(self.taken).index(key) + 1}"


SERVICE = PaymentService()


class Orders(AgentProcess):
    """Takes an order as far as its payment and its approval; shipping goes on from there."""

    @operation
    async def order(self, item: str, price: int, ctx: Context) -> str:
        async def pay(step: StepCall) -> str:
            receipt = await SERVICE.charge(price, step.key)
            if len(SERVICE.asked) == 1:
                raise SystemError("crashed: the money is taken, and the receipt is not stored")
            return receipt

        reserved = await ctx.step("reserve", lambda: f"one {item}, shelf 7")
        receipt = await ctx.step("pay", pay)
        approved = await ctx.wait_input(f"Ship {item} abroad?", {"type": "boolean"})
        self.state["orders"] = self.state.get("orders", 0) + 1  # kept where the transfer is kept, and only there
        ctx.transfer("shipping", {"what": reserved, "receipt": receipt, "abroad": approved}, operation="ship", reason="it is paid")


class Shipping(AgentProcess):
    """Ships what is paid. What it answers is the answer to the order."""

    @operation
    async def ship(self, what: str, receipt: str, ctx: Context, *, abroad: bool) -> str:
        label = await ctx.step("label", lambda: "label 1")
        return f"{what}, goes {'abroad' if abroad else 'nowhere'} with {label} and {receipt}"


async def main() -> None:
    logging.disable(logging.ERROR)  # the supervisor's report of the crash, which is expected here
    with tempfile.TemporaryDirectory() as directory:
        tree = Supervisor("root", children=[Orders("orders"), Shipping("shipping")], backoff_base=0.01)
        async with Runtime(supervisor=tree, data=directory) as runtime:
            door = Dispatcher(runtime)
            run = await door.submit(Call(door.catalogue.find("orders"), {"item": "kettle", "price": 40}))  # stored from here on
            async for event in run.follow():
                match event.type:
                    case "run.waiting":
                        print(f"{event.type}: {event.data['prompt']}")
                        await door.book.answer(run, value=True)
                    case kind if kind.startswith("step."):
                        print(f"{kind}: {event.data['name']}")
                    case kind:
                        print(kind)
            print(f"{run.status}: {run.output}")
    keys, taken = set(SERVICE.asked), sum(SERVICE.taken.values())
    print(f"the payment service was asked {len(SERVICE.asked)} times with {len(keys)} key, and took {taken} francs")


if __name__ == "__main__":
    asyncio.run(main())
