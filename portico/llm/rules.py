"""Rule: what a `ScriptedModel` does when a question fits. Plain data, so that a topology can hold it.

    - when: 'about (?P<topic>\\w+)'                  # searched in the question, whatever the case; fits everything where missing
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from portico.errors import ConfigurationError, did_you_mean, nearest

SEARCHED: Final = 4000
"""How many characters of a question `when` is searched in: a regular expression may take the square of that."""
_PLACE: Final = re.compile(r"\{([A-Za-z_]\w*)((?:\.(?:[\w-]+|\*))*)\}")
_RESULT: Final = "result"
_QUESTION: Final = "question"


class _MissingError(Exception):
    """A place that is named is not there, or is empty."""


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
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict) and list(cast("dict[str, Any]", value)) == [_RESULT]:
        return cast("dict[str, Any]", value)[_RESULT]
    return value


# --- filling in -------------------------------------------------------------------------------------------------------


def _filled(value: Any, known: Mapping[str, Any]) -> Any:
    """Arguments with every place filled in. Raises `_MissingError`."""
    if isinstance(value, str):
        whole = _PLACE.fullmatch(value)
        return _found(whole, known) if whole else _filled_text(value, known)
    if isinstance(value, Mapping):
        return {key: _filled(item, known) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_filled(item, known) for item in cast("list[Any]", value)]
    return value


def _filled_text(text: str, known: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda place: _shown(_found(place, known)), text)


def _found(place: re.Match[str], known: Mapping[str, Any]) -> Any:
    value = _walk(known[place[1]], place[2].split(".")[1:])
    if value in (None, "", [], {}):
        raise _MissingError
    return value


def _walk(value: Any, path: Sequence[str]) -> Any:
    for depth, step in enumerate(path):
        if step == "*":
            items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else []
            return [found for item in items if (found := _walk(item, path[depth + 1 :])) is not None]
        if isinstance(value, Mapping):
            value = cast("Mapping[str, Any]", value).get(step)
        elif isinstance(value, list) and step.isdecimal():
            value = next(iter(cast("list[Any]", value)[int(step) :]), None)
        else:
            return None
    return value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in cast("list[Any]", value)):
        return "\n".join(cast("list[str]", value))
    return json.dumps(value, ensure_ascii=False)


def _places(value: Any) -> list[str]:
    """The names of every place in a text, or in the texts of arguments."""
    if isinstance(value, str):
        return [place[1] for place in _PLACE.finditer(value)]
    if isinstance(value, Mapping):
        return [name for item in cast("Mapping[str, Any]", value).values() for name in _places(item)]
    if isinstance(value, list):
        return [name for item in cast("list[Any]", value) for name in _places(item)]
    return []


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
                return self.call, _filled(self.arguments, known)
            return _filled_text(self.say or "", known)
        except _MissingError:
            return self._instead(known)

    def _instead(self, known: Mapping[str, Any]) -> str:
        try:
            return _filled_text(self.otherwise or "I have found nothing.", known)
        except _MissingError:
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
        self._check_places()
        return self

    def _short_form(self) -> list[Step]:
        if self.call is None:
            return [Step(say=self.say, arguments=self.arguments, otherwise=self.otherwise)]
        call = Step(call=self.call, arguments=self.arguments, otherwise=self.otherwise)
        return [call, Step(say="{result}" if self.say is None else self.say, otherwise=self.otherwise)]

    def _check_places(self) -> None:
        known = [_QUESTION, _RESULT, *(self.when.groupindex if self.when else ())]
        for step in self.steps:
            for name in _places([step.arguments, step.say or "", step.otherwise or ""]):
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
        raise ConfigurationError(" ".join(_sentence(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())) from None


def _sentence(location: tuple[int | str, ...], kind: str, text: str) -> str:
    where = "rules" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    if kind == "extra_forbidden":
        keys = Step.model_fields if "steps" in location else Rule.model_fields
        hint = did_you_mean(nearest(str(location[-1]), keys)) or f" There are: {', '.join(keys)}."
        return f"{where}: there is no such key.{hint}"
    return f"{where}: {text.removeprefix('Value error, ')}."
