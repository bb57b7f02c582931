"""An agent that calls the tools of an external MCP server, which it connects itself.

The server (examples/demo/library_server.py) is a child process; the bridge starts it, and starts it again when it dies. A topology
declares servers under `mcp:` instead.

    python examples/mcp_agent.py "When is the library open on Saturdays?"
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from portico import AgentProcess, Message, Runtime, Supervisor
from portico.mcp_bridge.config import MCPServerConfig

DEMO = Path(__file__).resolve().parent / "demo"


class Librarian(AgentProcess):
    async def on_start(self) -> None:
        if not self.tools.names():  # the connection survives a crash of this agent
            library = MCPServerConfig("library", command="python", args=["library_server.py", "library"], cwd=DEMO)
            await self.connect_mcp(library)

    async def handle(self, message: Message) -> Message:
        search = self.tools.get("mcp://library/search_documents")
        found = await search.execute(words=message.payload["question"])
        return self.reply({"answer": found["result"]})  # the server's result is a text, and MCP wants an object


async def main(question: str) -> None:
    async with Runtime(supervisor=Supervisor("root", children=[Librarian("librarian")])) as runtime:
        print("\n".join(runtime.services.tools.names() if runtime.services.tools else []))
        answer = await runtime.ask("librarian", {"question": question})
        print(answer.payload["answer"])


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "When is the library open on Saturdays?"))
