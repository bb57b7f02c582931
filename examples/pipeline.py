"""A pipeline: three stages in a row, each of which knows only the next one.

Lines are *sent* down: nobody waits, and while one stage counts the first line another cleans the second. The total is *asked* for
down the same way: messages from one process to another never overtake each other, so it comes after every line, and its deadline
and its errors travel through all stages.

    python examples/pipeline.py
"""

from __future__ import annotations

import asyncio

from portico import AgentProcess, Runtime, Supervisor, operation

POEM = """
    The sea is calm to-night,
    The tide is full, the moon lies fair
    Upon the straits.
"""


class Cleaner(AgentProcess):
    @operation
    async def line(self, text: str) -> None:
        if text.strip():
            await self.send("splitter", {"text": text.strip().lower()}, "line")

    @operation
    async def total(self) -> dict[str, int]:
        return (await self.ask("splitter", {}, "total")).payload


class Splitter(AgentProcess):
    @operation
    async def line(self, text: str) -> None:
        await self.send("counter", [word.strip(",.") for word in text.split()], "words")

    @operation
    async def total(self) -> dict[str, int]:
        return (await self.ask("counter", {}, "total")).payload


class Counter(AgentProcess):
    @operation
    async def words(self, words: list[str]) -> None:  # one parameter that is no scalar: it is the whole payload
        for word in words:
            self.state[word] = self.state.get(word, 0) + 1

    @operation
    async def total(self) -> dict[str, int]:
        return self.state


async def main() -> None:
    stages = [Counter("counter"), Splitter("splitter"), Cleaner("cleaner")]  # what others send to starts first
    async with Runtime(supervisor=Supervisor("root", stages, strategy="REST_FOR_ONE")) as runtime:
        for line in POEM.splitlines():
            await runtime.send("cleaner", {"text": line}, "line")
        total = (await runtime.ask("cleaner", {}, message_type="total", timeout=5)).payload
    print(f"{sum(total.values())} words, {len(total)} of them different")
    print(", ".join(f"{word} {count} times" for word, count in total.items() if count > 1))


if __name__ == "__main__":
    asyncio.run(main())
