"""An agent that talks to a model by itself: `self.llm.chat`, with a provider given to the runtime.

Without arguments the model is a script that needs no key. Any API that speaks OpenAI's chat completions will do as well:

    python examples/llm_assistant.py "What is a supervisor?"
    OPENAI_API_KEY=… python examples/llm_assistant.py --url https://api.openai.com/v1 --model gpt-4.1-mini "…"
    python examples/llm_assistant.py --url http://127.0.0.1:11434/v1 --model llama3 "…"
"""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from portico import AgentProcess, Message, Runtime, Supervisor
from portico.llm.openai import OpenAIModel
from portico.llm.scripted import ScriptedModel

if TYPE_CHECKING:
    from portico.kernel.protocols import ModelProvider

SCRIPT = [
    {"when": "supervisor", "say": "A supervisor starts processes, and starts them again when they crash."},
    {"say": "I have only a script, and it does not say anything about that."},
]


class Assistant(AgentProcess):
    def __init__(self, name: str, model: str) -> None:
        super().__init__(name)
        self.model = model

    async def handle(self, message: Message) -> Message:
        said = [{"role": "user", "content": message.payload["question"]}]
        response = await self.llm.chat(model=self.model, messages=said)
        return self.reply({"answer": response.content, "model": response.model})


async def main(provider: ModelProvider, model: str, question: str) -> None:
    async with Runtime(supervisor=Supervisor("root", [Assistant("assistant", model)]), model_provider=provider) as runtime:
        answer = (await runtime.ask("assistant", {"question": question}, timeout=60)).payload
        print(f"{answer['model']}: {answer['answer']}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("question", nargs="?", default="What is a supervisor?")
    parser.add_argument("--url", default=os.environ.get("OPENAI_BASE_URL"), help="what stands before /chat/completions")
    parser.add_argument("--model", default="gpt-4.1-mini")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    if given.url:
        asyncio.run(main(OpenAIModel(given.url, os.environ.get("OPENAI_API_KEY")), given.model, given.question))
    else:
        asyncio.run(main(ScriptedModel(rules=SCRIPT), "scripted", given.question))
