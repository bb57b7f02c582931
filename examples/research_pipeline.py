"""A pipeline of agents: three searchers work side by side, an editor puts together what they found, a desk answers for all.

Every ask below the first inherits its deadline; a searcher that crashes is restarted, and its ask is delivered again.

    python examples/research_pipeline.py
"""

from __future__ import annotations

import asyncio

from portico import AgentProcess, Message, Runtime, Supervisor, operation

NOTES = {
    "history": "The first lighthouse that is recorded stood at Alexandria.",
    "engineering": "A Fresnel lens throws a small flame more than thirty kilometres out to sea.",
    "sailors": "Each light has a rhythm of its own, so that a sailor knows which one it is.",
}


class Searcher(AgentProcess):
    """Knows one subject; `subject` is an argument, so a restart has it too."""

    def __init__(self, name: str, subject: str) -> None:
        super().__init__(name)
        self.subject = subject

    async def handle(self, message: Message) -> Message:
        return self.reply({"subject": self.subject, "finding": NOTES[self.subject]})


class Editor(AgentProcess):
    @operation
    async def edit(self, topic: str, findings: list[dict[str, str]]) -> str:
        lines = [f"- {one['finding']} ({one['subject']})" for one in findings]
        return "\n".join([f"What we know about {topic}:", *lines])


class Desk(AgentProcess):
    """Where a question comes in. It asks all searchers at once, then the editor."""

    async def handle(self, message: Message) -> Message:
        topic = message.payload["topic"]
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(self.ask(f"search-{subject}", {"topic": topic})) for subject in NOTES]
        findings = [ask.result().payload for ask in asks]
        edited = await self.ask("editor", {"topic": topic, "findings": findings}, message_type="edit")
        return self.reply({"report": edited.payload})


async def main() -> None:
    searchers = Supervisor("searchers", [Searcher(f"search-{subject}", subject) for subject in NOTES])
    tree = Supervisor("root", [searchers, Editor("editor"), Desk("desk")], strategy="REST_FOR_ONE")
    async with Runtime(supervisor=tree) as runtime:
        runtime.print_tree()
        answer = await runtime.ask("desk", {"topic": "lighthouses"}, timeout=10)
        print(answer.payload["report"])


if __name__ == "__main__":
    asyncio.run(main())
