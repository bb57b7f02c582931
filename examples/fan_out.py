"""Fan out, fan in: one agent asks a pool of slow workers all its questions at once, and gathers the answers in order.

The pool's name is all that the asker knows; each question goes to whoever is free. A worker that crashes is restarted, and a
colleague takes what it had in hand.

    python examples/fan_out.py
"""

from __future__ import annotations

import asyncio
import logging
import time

from portico import AgentProcess, Message, Runtime, Supervisor, pool

PLANETS = ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"]
SLOWNESS = 0.1  # seconds


class Surveyor(AgentProcess):
    async def handle(self, message: Message) -> Message:
        await self.sleep(SLOWNESS)
        if message.payload["planet"] == "Mars" and message.attempt == 0:
            raise RuntimeError("lost in a dust storm")
        return self.reply({"letters": len(message.payload["planet"])})


class Chief(AgentProcess):
    async def handle(self, message: Message) -> Message:
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(self.ask("surveyor", {"planet": planet})) for planet in message.payload["planets"]]
        return self.reply({"letters": [ask.result().payload["letters"] for ask in asks]})


async def main() -> None:
    logging.disable(logging.WARNING)  # the supervisor's report of what happened on Mars, which is expected here
    surveyors = pool(Surveyor, size=len(PLANETS), backoff_base=0.01)
    async with Runtime(supervisor=Supervisor("root", children=[surveyors, Chief("chief")])) as runtime:
        began = time.monotonic()
        answer = await runtime.ask("chief", {"planets": PLANETS})
        took = time.monotonic() - began
    for planet, letters in zip(PLANETS, answer.payload["letters"], strict=True):
        print(f"{planet} has {letters} letters")
    # One round for all of them, and a second one for Mars: 0.2 seconds. One after another they would have taken 0.9.
    print("side by side" if took < len(PLANETS) * SLOWNESS else "one after another")


if __name__ == "__main__":
    asyncio.run(main())
