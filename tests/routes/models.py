"""What the tests of usage share: agents that call a model of a fake API on a real socket, and what that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.agents.model_agent import ModelAgent
from portico.kernel.process import AgentProcess
from portico.llm.openai import OpenAIModel
from portico.llm.prices import Prices
from tests.llm.fake_openai import Answer, completion

if TYPE_CHECKING:
    from tests.llm.fake_openai import FakeOpenAI

PRICES: Final = {"priced": {"input": 1, "output": 10}}
"""A token read costs a millionth of a dollar, one written ten."""


def prices() -> Prices:
    """Those of the tests, and no others."""
    return Prices(PRICES, bundled=False)


def answered(text: str = "Hi.", *, read: int | None = 100, written: int | None = 10, model: str = "priced", **usage: Any) -> Answer:
    """An answer that took so many tokens; None: the API does not tell."""
    told = {"prompt_tokens": read, "completion_tokens": written, **usage} if read is not None else None
    return completion(text, usage=told, model=model)


def provider(fake: FakeOpenAI) -> OpenAIModel:
    """The fake API as a provider."""
    return OpenAIModel(fake.base_url, "key", model="priced", name="fake", timeout=10)


def helper(fake: FakeOpenAI, name: str = "helper", *, stream: bool = False, **settings: Any) -> ModelAgent:
    """An agent that asks the model once for each call."""
    return ModelAgent(name, provider=provider(fake), stream=stream, **settings)


class Asker(AgentProcess):
    """Asks another agent as often as it is told to."""

    def __init__(self, name: str, of: str, times: int = 1) -> None:
        super().__init__(name, concurrency=10)
        self._of = of
        self._times = times

    async def handle(self, message: Any) -> Any:
        for _ in range(self._times):
            await self.ask(self._of, {"message": "?"})
        return self.reply({"asked": self._times})
