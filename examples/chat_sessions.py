"""Chat sessions: a keyed agent, with a process of its own for each session.

The first message of a session starts its process; one that is idle is put to sleep and costs nothing. Its state was committed with
every reply, so the next message wakes a fresh process that goes on where the session was. Sessions neither share anything nor wait
for each other.

    python examples/chat_sessions.py
"""

from __future__ import annotations

import asyncio

from portico import AgentProcess, Runtime, Supervisor, keyed, operation
from portico.errors import KeyMissing


class Chat(AgentProcess):
    @operation
    async def say(self, session_id: str, text: str) -> str:
        said = self.state.setdefault("said", [])
        said.append(text)
        return f"{session_id}, so far you said: {', '.join(said)}"


async def main() -> None:
    chat = keyed(Chat, per_key="session_id", idle_timeout=0.1)
    async with Runtime(supervisor=Supervisor("root", children=[chat])) as runtime:

        async def say(session: str, text: str) -> None:
            answer = await runtime.ask("chat", {"session_id": session, "text": text}, message_type="say")
            print(answer.payload)

        async with runtime.router.bus.subscribe("process.stopped") as stops:
            await say("ada", "good morning")
            await say("bob", "hello")
            await say("ada", "it rains")
            while runtime.all_agents():
                await anext(stops)
        print("all sessions are asleep, and ada's is woken:")
        await say("ada", "still")
        runtime.print_tree()
        try:
            await runtime.ask("chat", {"text": "who am I?"}, message_type="say")
        except KeyMissing as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
