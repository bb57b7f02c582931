"""A router: finds who can do a job by capability, and the best of them by what each says about itself.

A capability is a tag that a class declares; the registry knows who has it, and what its `capability_metadata` says. A translator
that joins needs no line in the router. Where nobody can, the clerk gets the job.

    python examples/router.py
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from portico import AgentProcess, Message, Runtime, Supervisor


class Apprentice(AgentProcess):
    capabilities: ClassVar = ["translate"]
    capability_metadata: ClassVar = {"translate": {"languages": ["French", "Italian"], "price": 2}}

    async def handle(self, message: Message) -> Message:
        return self.reply({"text": f"{message.payload['text']}, in simple {message.payload['language']}"})


class Master(AgentProcess):
    capabilities: ClassVar = ["translate", "proofread"]
    capability_metadata: ClassVar = {
        "translate": {"languages": ["French", "Greek"], "price": 9},
        "proofread": {"languages": ["French"], "price": 5},
    }

    async def handle(self, message: Message) -> Message:
        return self.reply({"text": f"{message.payload['text']}, in perfect {message.payload['language']}"})


class Clerk(AgentProcess):
    async def handle(self, message: Message) -> Message:
        return self.reply({"text": f"sorry, nobody here can {message.payload['job']} {message.payload['language']}"})


class Dispatcher(AgentProcess):
    async def handle(self, message: Message) -> Message:
        job = message.payload
        name = self.cheapest(job["job"], job["language"]) or "clerk"
        answer = await self.ask(name, job)
        return self.reply({"by": name, **answer.payload})

    def cheapest(self, capability: str, language: str) -> str | None:
        registry = self.router.registry
        able = registry.find_by_capability(capability)
        offers: dict[str, Any] = {name: registry.capability_metadata(capability, name) for name in able}
        fitting = [name for name in able if language in offers[name]["languages"]]
        return min(fitting, key=lambda name: offers[name]["price"], default=None)


JOBS = [("translate", "French"), ("translate", "Greek"), ("proofread", "French"), ("translate", "Finnish"), ("interpret", "Greek")]


async def main() -> None:
    children = [Apprentice("apprentice"), Master("master"), Clerk("clerk"), Dispatcher("dispatcher")]
    async with Runtime(supervisor=Supervisor("root", children)) as runtime:
        for job, language in JOBS:
            answer = await runtime.call("dispatcher", {"job": job, "language": language, "text": "Good morning"})
            print(f"{job} {language}: {answer['by']}: {answer['text']}")


if __name__ == "__main__":
    asyncio.run(main())
