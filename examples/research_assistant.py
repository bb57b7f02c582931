"""A model that uses tools, without a key: the model is a script, everything else is as with a real one.

`ModelAgent` asks the model, runs the tools that it wants, tells it their results, and asks again until there is an answer.

    python examples/research_assistant.py "How high is the Eiffel tower?"
"""

from __future__ import annotations

import asyncio
import sys

from portico import ModelAgent, Runtime, Supervisor
from portico.errors import ToolError
from portico.llm.scripted import ScriptedModel

HEIGHTS = {"eiffel tower": 330, "big ben": 96, "pharos": 100}

SCRIPT = [
    {
        "when": r"how high is (?:the )?(?P<building>[\w ]+)",
        "call": "height_of",
        "arguments": {"building": "{building}"},
        "say": "{result.building} is {result.metres} metres high.",
        "otherwise": "I do not know how high {building} is.",
    },
    {"say": "Ask me how high a building is."},
]


def height_of(building: str) -> dict[str, str | int]:
    """The height of a building, in metres."""
    metres = HEIGHTS.get(building.strip().lower())
    if metres is None:
        raise ToolError(f"There is no building {building!r}. There are: {', '.join(HEIGHTS)}.")
    return {"building": building, "metres": metres}


async def main(question: str) -> None:
    assistant = ModelAgent("assistant", instructions="Look heights up, do not guess.", tools=[height_of])
    tree = Supervisor("root", [assistant])
    async with Runtime(supervisor=tree, model_provider=ScriptedModel(rules=SCRIPT)) as runtime:
        answer = (await runtime.ask("assistant", {"message": question})).payload
        for call in answer["tool_calls"]:
            print(f"tool: {call['name']} {call['arguments']} {call['error'] or 'ok'}")
        print(answer["reply"])


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "How high is the Eiffel tower?"))
