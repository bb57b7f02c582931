r"""Rule: what a `ScriptedModel` does when a question fits. Plain data, so that a topology can hold it.

    - when: 'about (?P<topic>\w+)'                  # searched in the question, whatever the case; fits everything where missing
      call: mcp://files/search                      # first the agent calls this tool …
      arguments: {query: "{topic}"}
      say: "This is what I found: {result.matches}" # … then this is the answer; "{result}" unless given
      otherwise: "There is nothing about {topic}."  # said instead, where a place that is named here is missing or empty

More than one call is written as `steps:`, a list of `{call, arguments, otherwise}` that ends with `{say, otherwise}`. In texts and
arguments `{question}`, `{group}` (a named group of `when`) and `{result}` (what the last tool gave) are filled in. A path leads
into JSON: `{result.files.0.name}`; `*` takes every item. An argument that is one place and nothing else keeps the value's type.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.llm.places import MissingPlace, filled, filled_text, places

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SEARCHED: Final = 4000
"""How many characters of a question `when` is searched in: a regular expression may take the square of that."""
_RESULT: Final = "result"
_QUESTION: Final = "question"


# --- the question -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """Where a conversation stands: what the user said last, and what happened since."""

    text: str
    """What the user said last."""
    step: int
    """How often the model has answered since."""
    result: Any
    """What the last tool gave since: JSON where it is JSON, else text; None where none was called."""
    length: int
    """How many messages the conversation has."""

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> Self:
        """Read it from the messages."""
        start = next((index for index in reversed(range(len(messages))) if messages[index].get("role") == "user"), 0)
        since = messages[start + 1 :]
        results = [_parsed(_text(message)) for message in since if message.get("role") == "tool"]
        step = sum(message.get("role") == "assistant" for message in since)
        return cls(_text(messages[start]) if messages else "", step, results[-1] if results else None, len(messages))


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


def _parsed(text: str) -> Any:
    """JSON as data; `{"result": …}` is what MCP servers make of a result that is not an object."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return found[_RESULT] if list(found) == [_RESULT] else found
    return value


# --- the rule ---------------------------------------------------------------------------------------------------------


class Step(BaseModel):
    """One answer of the model: a call of a tool, or a text that ends the turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call: str | None = None
    """The tool to call."""
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Its arguments."""
    say: str | None = None
    """The text to say."""
    otherwise: str | None = None
    """The text to say where a place that this step names is missing or empty."""

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if (self.call is None) == (self.say is None):
            raise ValueError("a step has either 'call' or 'say'")
        if self.arguments and self.call is None:
            raise ValueError("'arguments' belong to a 'call'")
        return self

    def take(self, question: Question, words: Mapping[str, str]) -> str | tuple[str, dict[str, Any]]:
        """What the model answers: a text, or a tool's name and arguments."""
        known = {**words, _QUESTION: question.text, _RESULT: question.result}
        try:
            if self.call is not None:
                return self.call, filled(self.arguments, known)
            return filled_text(self.say or "", known)
        except MissingPlace:
            return self._instead(known)

    def _instead(self, known: Mapping[str, Any]) -> str:
        try:
            return filled_text(self.otherwise or "I have found nothing.", known)
        except MissingPlace:
            return "I have found nothing."


def _compiled(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return re.compile(value, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None


class Rule(BaseModel):
    """What to do when a question fits."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    when: Annotated[re.Pattern[str] | None, BeforeValidator(_compiled)] = None
    """Searched in the question; None fits everything."""
    call: str | None = None
    """Short for a first step."""
    arguments: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Of that step."""
    say: str | None = None
    """Short for the last step."""
    otherwise: str | None = None
    """Of that step."""
    steps: tuple[Step, ...] = ()
    """What the model answers, one after the other, until it has said something. Filled in from the short form."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.steps:
            object.__setattr__(self, "steps", tuple(self._short_form()))
        elif self.call or self.say or self.arguments or self.otherwise:
            raise ValueError("'steps' stand alone: what else the rule does belongs into them")
        *calls, last = self.steps
        if last.say is None or any(step.say is not None for step in calls):
            raise ValueError("the last of 'steps' says something, and only the last")
        self._checkplaces()
        return self

    def _short_form(self) -> list[Step]:
        if self.call is None:
            return [Step(say=self.say, arguments=self.arguments, otherwise=self.otherwise)]
        call = Step(call=self.call, arguments=self.arguments, otherwise=self.otherwise)
        return [call, Step(say="{result}" if self.say is None else self.say, otherwise=self.otherwise)]

    def _checkplaces(self) -> None:
        known = [_QUESTION, _RESULT, *(self.when.groupindex if self.when else ())]
        for step in self.steps:
            for name in places([step.arguments, step.say or "", step.otherwise or ""]):
                if name not in known:
                    hint = did_you_mean(nearest(name, known)) or f" There are: {', '.join(known)}."
                    raise ValueError(f"nothing is called {{{name}}} here.{hint}")

    def match(self, text: str) -> dict[str, str] | None:
        """The named groups of `when` where it is found in a question, else None."""
        if self.when is None:
            return {}
        found = self.when.search(text[:SEARCHED])
        return None if found is None else found.groupdict(default="")

    def step(self, number: int) -> Step:
        """The step of that number, from 0; after the last, the last."""
        return self.steps[min(number, len(self.steps) - 1)]


_RULES: Final[TypeAdapter[tuple[Rule, ...]]] = TypeAdapter(tuple[Rule, ...])


def read_rules(rules: Sequence[Rule | Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Rules from plain data. Raises `ConfigurationError` with every mistake."""
    try:
        return _RULES.validate_python(rules)
    except ValidationError as error:
        raise ConfigurationError(
            " ".join(_sentence(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
        ) from None


def _sentence(location: tuple[int | str, ...], kind: str, text: str) -> str:
    where = "rules" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    if kind == "extra_forbidden":
        keys = Step.model_fields if "steps" in location else Rule.model_fields
        hint = did_you_mean(nearest(str(location[-1]), keys)) or f" There are: {', '.join(keys)}."
        return f"{where}: there is no such key.{hint}"
    return f"{where}: {text.removeprefix('Value error, ')}."
