"""Processes that come and go: a coordinator spawns a printer for each job, and hears when one has ended.

`self.spawn` starts it below the nearest `DynamicSupervisor`, which restarts it when it crashes. `self.stop` ends it softly (`drain`
says what it may finish first), `self.despawn` at once; `on_child_terminated` comes after either, through the mailbox.

    python examples/dynamic_spawning.py
"""

from __future__ import annotations

import asyncio

from portico import AgentProcess, DynamicSupervisor, Runtime, Supervisor, operation
from portico.errors import SpawnError


class Printer(AgentProcess):
    def __init__(self, name: str, paper: str = "A4") -> None:
        super().__init__(name)
        self.paper = paper

    @operation
    async def page(self, number: int) -> None:
        await self.sleep(0.02)
        print(f"  {self.name}: page {number} on {self.paper}")


class Coordinator(AgentProcess):
    @operation
    async def hire(self, name: str, paper: str) -> str:
        return await self.spawn(Printer, name, {"paper": paper})

    @operation
    async def dismiss(self, name: str, drain: str = "current") -> None:
        await self.stop(name, drain=drain)

    async def on_child_terminated(self, name: str, reason: str) -> None:
        self.state[name] = reason

    @operation(read_only=True)
    async def gone(self) -> dict[str, str]:
        return self.state


async def main() -> None:
    tree = Supervisor("root", [Coordinator("coordinator"), DynamicSupervisor("printers", max_children=2)])
    async with Runtime(supervisor=tree) as runtime:
        await runtime.ask("coordinator", {"name": "posters", "paper": "A2"}, message_type="hire")
        await runtime.ask("coordinator", {"name": "letters", "paper": "A4"}, message_type="hire")
        runtime.print_tree()
        try:
            await runtime.ask("coordinator", {"name": "stamps", "paper": "A8"}, message_type="hire")
        except SpawnError as error:
            print(error)

        print("stopped after all that waits:")
        for number in (1, 2, 3):
            await runtime.send("letters", {"number": number}, "page")
        await runtime.ask("coordinator", {"name": "letters", "drain": "all"}, message_type="dismiss")

        print("stopped after the message in hand:")
        for number in (1, 2, 3):
            await runtime.send("posters", {"number": number}, "page")  # two of these become dead letters
        await runtime.ask("coordinator", {"name": "posters"}, message_type="dismiss")

        gone = await runtime.ask("coordinator", {}, message_type="gone")
        print(f"gone: {gone.payload}")
        runtime.print_tree()


if __name__ == "__main__":
    asyncio.run(main())
