"""New code under traffic: a till is replaced by another class while customers stand in line, and nobody notices.

The old incarnation finishes what it has in hand, the mailbox and the state stay, the new one goes on with the next in line. If the
new class does not start, the old one comes back.

    python examples/replace_under_traffic.py
"""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby

from portico import AgentProcess, Runtime, Supervisor, operation
from portico.errors import StartError

ENOUGH = 10


class Till(AgentProcess):
    @operation
    async def sell(self, price: int) -> str:
        await self.sleep(0.001)
        self.state["sold"] = self.state.get("sold", 0) + 1
        return f"{price} francs"

    @operation(read_only=True)
    async def sold(self) -> int:
        return self.state["sold"]


class EuroTill(Till):
    @operation
    async def sell(self, price: int) -> str:
        return (await super().sell(price)).replace("francs", "euros")


class BrokenTill(Till):
    async def on_start(self) -> None:
        raise RuntimeError("the drawer is stuck")


async def customer(runtime: Runtime) -> list[str]:
    """Buys, and buys again, until there were some receipts in euros. An ask that failed would end the program."""
    receipts: list[str] = []
    while receipts.count("10 euros") < ENOUGH:
        receipts.append((await runtime.ask("till", {"price": 10}, message_type="sell")).payload)
    return receipts


async def main() -> None:
    logging.disable(logging.WARNING)  # the supervisor's report on the broken till, which is expected here
    async with Runtime(supervisor=Supervisor("root", [Till("till")], backoff_base=0.01)) as runtime:
        async with asyncio.TaskGroup() as group:
            customers = [group.create_task(customer(runtime)) for _ in range(5)]
            # The program stands in the same line: when it has been served, so has everybody.
            own = [await runtime.ask("till", {"price": 10}, message_type="sell") for _ in range(ENOUGH)]
            try:
                await runtime.replace("till", BrokenTill)
            except StartError as error:
                print(error)
            await runtime.replace("till", EuroTill)
        sold = (await runtime.ask("till", {}, message_type="sold")).payload

    receipts = [customer.result() for customer in customers]
    for number, printed in enumerate(receipts, start=1):
        print(f"customer {number}: {', then '.join(receipt for receipt, _ in groupby(printed))}")
    print("every sale was counted once" if sold == len(own) + sum(map(len, receipts)) else "a sale was lost")


if __name__ == "__main__":
    asyncio.run(main())
