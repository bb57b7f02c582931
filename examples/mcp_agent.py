"""An agent that calls the tools of an external MCP server, which it connects itself.

The server (examples/demo/library_server.py) is a child process; the bridge starts it, and starts it again when it dies. A topology
declares servers under `mcp:` instead, and needs none of the wiring here.

    python examples/mcp_agent.py "When is the library open on Saturdays?"
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from portico import AgentProcess, Message, Runtime, Supervisor
from portico.mcp_bridge.config import MCPServerConfig
from portico.mcp_bridge.wiring import build_upstreams

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
    servers, tools = build_upstreams([])  # a supervisor for servers, none yet, and their tools; it stands first in the tree
    tree = Supervisor("root", children=[servers, Librarian("librarian")])
    async with Runtime(supervisor=tree, tool_registry=tools) as runtime:
        print("\n".join(tools.names()))
        answer = await runtime.ask("librarian", {"question": question})
        print(answer.payload["answer"])


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "When is the library open on Saturdays?"))
