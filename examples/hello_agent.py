"""Hello: one agent under a supervisor, asked once. The smallest program: `python examples/hello_agent.py`."""

from __future__ import annotations

import asyncio

from portico import AgentProcess, Message, Runtime, Supervisor


class Echo(AgentProcess):
    async def handle(self, message: Message) -> Message:
        return self.reply({"echo": message.payload["text"]})


async def main() -> None:
    async with Runtime(supervisor=Supervisor("root", children=[Echo("echo")])) as runtime:
        runtime.print_tree()
        answer = await runtime.ask("echo", {"text": "hello"})
        print(answer.payload["echo"])


if __name__ == "__main__":
    asyncio.run(main())
