"""Supervision: an agent that crashes in half of its handlings, and callers who never see it.

What is in hand when it crashes is delivered again to the next incarnation, up to `1 + max_restarts` times. `self.state` holds what
was committed with the last reply: a crash takes back what its handling changed.

    python examples/supervised_agent.py
"""

from __future__ import annotations

import asyncio
import logging
import random

from portico import AgentProcess, Message, Runtime, Supervisor


class Flaky(AgentProcess):
    async def on_start(self) -> None:
        self.dice = random.Random(self.id)  # each incarnation has dice of its own: flaky#1, flaky#2 …

    async def handle(self, message: Message) -> Message:
        self.state["answered"] = self.state.get("answered", 0) + 1
        if self.dice.choice([True, False]):
            raise RuntimeError("crashed on purpose")
        return self.reply({"double": 2 * message.payload["number"], "answered": self.state["answered"]})


async def main() -> None:
    # Each crash is a supervisor's report with a traceback, at level WARNING; here they are expected.
    logging.getLogger("portico").setLevel(logging.ERROR)
    crashes: list[str] = []
    tree = Supervisor("root", [Flaky("flaky")], "ONE_FOR_ONE", max_restarts=10, backoff="EXPONENTIAL", backoff_base=0.01)
    async with Runtime(supervisor=tree) as runtime:
        runtime.on_crash(lambda event: crashes.append(event.name))
        answers = [await runtime.ask("flaky", {"number": number}) for number in range(1, 6)]
    for number, answer in enumerate(answers, start=1):
        print(f"{number} doubled is {answer.payload['double']} (attempt {answer.attempt + 1})")
    print(f"answered: {answers[-1].payload['answered']}, crashed: {len(crashes)} times")


if __name__ == "__main__":
    asyncio.run(main())
