"""ScriptedModel: a model that answers what it was told to. Deterministic, offline; the in-memory twin of `ModelProvider`.

Two ways of use: a list of responses, given one by one (tests); or rules, plain data that fit into a topology, which look at the
question, let the agent call tools and answer out of their results (demos). Rules keep nothing between calls: the conversation
tells which step is next, so that many callers can share one model.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from portico.errors import ModelError, did_you_mean, nearest
from portico.kernel.protocols import ModelIdentity, ModelResponse, ToolCall
from portico.llm.rules import Question, Rule, Step, read_rules
from portico.llm.tool_names import legal_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

Answer: TypeAlias = str | ModelResponse
Script: TypeAlias = (
    Answer | Exception | Callable[[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]], "Answer | Awaitable[Answer]"]
)
"""One response: a text, a whole response, an error to raise, or a function of the messages and tools that makes one."""

REMEMBERED: Final = 100
"""How many calls `ScriptedModel.calls` keeps."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What the model was asked, copied at that moment."""

    model: str
    """The model's name, as the agent gave it."""
    messages: list[dict[str, Any]]
    """The conversation."""
    tools: list[dict[str, Any]]
    """The tools that were offered."""


class ScriptedModel:
    """A `ModelProvider` that follows a script.

    Args:
        responses: given one by one; after the last, calls fail with `ModelError`.
        rules: asked once the responses are used up. Mappings as `rules.Rule` describes, or `Rule`s. For each call, the first rule
            whose `when` is found in the question (the last thing that the user said) gives the next of its steps.
        model: what it calls itself where the agent names no model.

    Raises:
        ConfigurationError: rules that cannot be.
    """

    def __init__(
        self, responses: Iterable[Script] = (), *, rules: Sequence[Rule | Mapping[str, Any]] = (), model: str = "scripted"
    ) -> None:
        self.calls: deque[RecordedCall] = deque(maxlen=REMEMBERED)
        """The last calls, the newest last: what the model was asked."""
        self._responses = deque(responses)
        self._given = len(self._responses)
        self._rules = read_rules(rules)
        self._model = model

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> ModelResponse:
        """See `ModelProvider.chat`."""
        offered = tools or ()
        self.calls.append(
            RecordedCall(model, [deepcopy(dict(message)) for message in messages], [deepcopy(dict(tool)) for tool in offered])
        )
        answer = await self._answer(messages, offered)
        return answer if isinstance(answer, ModelResponse) else _response(answer, model or self._model, messages)

    async def stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> AsyncIterator[str | ModelResponse]:
        """See `ModelProvider.stream`. Its pieces are words; others run between them."""
        response = await self.chat(model, messages, tools)
        for word in re.findall(r"\S+\s*|\s+", response.content):
            yield word
            await asyncio.sleep(0)
        yield response

    def identify(self, model: str) -> ModelIdentity:
        """See `KnowsModels.identify`."""
        return ModelIdentity("scripted", model or self._model, "scripted")

    async def _answer(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Answer | ToolCall:
        if not self._responses:
            return self._by_rule(messages, tools)
        script = self._responses.popleft()
        if isinstance(script, Exception):
            raise script
        if isinstance(script, str | ModelResponse):
            return script
        made = script(messages, tools)
        return made if isinstance(made, str | ModelResponse) else await made

    # --- rules --------------------------------------------------------------------------------------------------------

    def _by_rule(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> str | ToolCall:
        if not self._rules:
            raise ModelError("scripted", f"The script has run out: each of its {self._given} responses was used.", began=False)
        question = Question.of(messages)
        for rule in self._rules:
            words = rule.match(question.text)
            if words is not None:
                return _taken(rule.step(question.step), question, words, tools)
        raise ModelError(
            "scripted", f"No rule fits {_short(question.text)!r}. A last rule without `when` fits everything.", began=False
        )


def _taken(step: Step, question: Question, words: Mapping[str, str], tools: Sequence[Mapping[str, Any]]) -> str | ToolCall:
    taken = step.take(question, words)
    if isinstance(taken, str):
        return taken
    name, arguments = taken
    return ToolCall(f"call_{question.length}", _offered(name, tools), arguments)


def _offered(wanted: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """The name under which a tool is offered; a rule may give the tool's own name (`mcp://files/read`)."""
    names = [cast("str", tool["function"]["name"]) for tool in tools]
    for name in (wanted, legal_name(wanted)):
        if name in names:
            return name
    hint = did_you_mean(nearest(legal_name(wanted), names)) or f" There are: {', '.join(names) or 'none'}."
    raise ModelError("scripted", f"A rule calls the tool {wanted!r}, which the agent does not offer.{hint}")


def _response(answer: str | ToolCall, model: str, messages: Sequence[Mapping[str, Any]]) -> ModelResponse:
    """A whole response. Its tokens are words, and it costs nothing."""
    read = sum(len(str(message.get("content") or "").split()) for message in messages)
    if isinstance(answer, ToolCall):
        return ModelResponse("", model, read, 1, 0.0, (answer,), "tool_calls")
    return ModelResponse(answer, model, read, len(answer.split()), 0.0, (), "stop")


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004  # what fits on a line
