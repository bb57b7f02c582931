"""What MCP clients can read of an agent, and the words for models that it has: `@resource` and `@prompt`.

A client (the SDK's own) lists, reads and subscribes over HTTP; in Claude Desktop the same is `portico mcp` with a topology.

    python examples/reading_room.py
"""

from __future__ import annotations

import asyncio
from typing import Literal, cast

from mcp import Client
from mcp.types import PromptReference, TextContent, TextResourceContents

from portico import AgentProcess, GatewayConfig, HTTPGateway, Runtime, Supervisor, operation, prompt, resource


class ReadingRoom(AgentProcess):
    @resource("notes://index", title="All topics")
    async def index(self) -> list[str]:
        """What there are notes about."""
        return sorted(self.state)

    @resource("notes://{topic}", title="A note", mime_type="text/markdown")
    async def note(self, topic: str) -> str:
        """One note."""
        return self.state.get(topic, "Nobody wrote about that yet.")

    @operation
    async def write(self, topic: str, text: str) -> None:
        """Write a note."""
        self.state[topic] = text
        self.resource_updated(f"notes://{topic}")
        self.resource_updated("notes://index")

    @prompt(title="Summarise a note")
    async def summary(self, topic: str, tone: Literal["plain", "playful"] = "plain") -> str:
        """Asks for a summary."""
        return f"Summarise the note on {topic} in a {tone} tone:\n{self.state.get(topic, '')}"


async def read(client: Client, uri: str) -> str:
    return cast("TextResourceContents", (await client.read_resource(uri)).contents[0]).text


async def main() -> None:
    gateway = HTTPGateway("api", config=GatewayConfig(port=0))
    async with Runtime(supervisor=Supervisor("root", children=[ReadingRoom("room"), gateway])) as runtime:
        url = f"http://127.0.0.1:{cast('HTTPGateway', runtime.get_agent('api')).port}/mcp"
        async with Client(url) as client:
            print("tools:", ", ".join(tool.name for tool in (await client.list_tools()).tools))
            print("resources:", ", ".join(one.uri for one in (await client.list_resources()).resources))
            async with client.listen(resource_subscriptions=["notes://tea"]) as news:
                await client.call_tool("room", {"topic": "tea", "text": "Three minutes, no more."})
                print("new:", await anext(news))
            print("read:", await read(client, "notes://index"), await read(client, "notes://tea"))
            tones = await client.complete(PromptReference(name="summary"), {"name": "tone", "value": "pl"})
            print("tones:", ", ".join(tones.completion.values))
            said = await client.get_prompt("summary", {"topic": "tea", "tone": "playful"})
            print(cast("TextContent", said.messages[0].content).text)


if __name__ == "__main__":
    asyncio.run(main())
