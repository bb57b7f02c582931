"""A rate limiter: a bucket of tokens as a `GenServer`, which a timer of its own fills up again.

`handle_call` answers an ask at once, or puts the reply off until there is a token; `handle_cast` takes an order that nobody waits
for; `handle_info` hears the timer. One message at a time, so that no two clients ever get the same token, without a lock.

    python examples/rate_limiter.py
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from portico import GenServer, Message, Runtime, Supervisor

REFILL = 50  # milliseconds


class RateLimiter(GenServer):
    def __init__(self, name: str, capacity: int) -> None:
        super().__init__(name)
        self.capacity = capacity

    async def init(self) -> None:
        self.tokens = self.capacity
        self.queue: deque[Message] = deque()

    async def handle_call(self, payload: dict[str, Any], from_: Message) -> Any:
        if self.tokens > 0:
            if self.tokens == self.capacity:
                self.send_after(REFILL, "refill")  # a full bucket needs no timer
            self.tokens -= 1
            return {"allowed": True, "how": "at once"}
        if not payload["patient"]:
            return {"allowed": False, "how": "the bucket is empty"}
        self.queue.append(from_)
        return self.defer()

    async def handle_cast(self, payload: dict[str, Any]) -> None:
        self.tokens += payload["grow"]
        self.capacity += payload["grow"]

    async def handle_info(self, payload: str) -> None:
        if self.queue:
            self.reply_to(self.queue.popleft(), {"allowed": True, "how": "after a refill"})
        else:
            self.tokens += 1
        if self.queue or self.tokens < self.capacity:
            self.send_after(REFILL, "refill")


async def rush(runtime: Runtime, patience: dict[str, bool]) -> None:
    """All of them ask at the same time."""
    async with asyncio.TaskGroup() as group:
        asks = {who: group.create_task(runtime.call("limiter", {"patient": patient})) for who, patient in patience.items()}
    for who, ask in asks.items():
        answer = ask.result()
        print(f"  {who}: {'allowed' if answer['allowed'] else 'refused'}, {answer['how']}")


async def main() -> None:
    async with Runtime(supervisor=Supervisor("root", children=[RateLimiter("limiter", capacity=2)])) as runtime:
        print("two tokens, five clients:")
        await rush(runtime, {"Ada": False, "Bob": False, "Cleo": False, "Dan": True, "Eve": True})
        await runtime.cast("limiter", {"grow": 2})
        print("two tokens more, three clients:")
        await rush(runtime, {"Fay": False, "Gus": False, "Hal": True})


if __name__ == "__main__":
    asyncio.run(main())
