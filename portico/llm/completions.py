"""The JSON of OpenAI's chat completions: requests from what agents say, `ModelResponse`s from what comes back, whole or in pieces.

Pure: no input or output. Above: `openai.py`. What is nonsense raises `ValueError` with a sentence. Unknown usage is None, not zero.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, cast

from portico.kernel.protocols import MOST_TOKENS, ModelResponse, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReportedError(Exception):
    """The API reports an error inside an answer that began well. `text` is its message, `status` its code where it is one."""

    def __init__(self, error: Any) -> None:
        code = _member(error, "code")
        self.status = code if isinstance(code, int) and not isinstance(code, bool) else None
        self.text = error_text(error)
        super().__init__(self.text)


def request(
    model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The body of a request."""
    body: dict[str, Any] = {**parameters, "model": model, "messages": [dict(message) for message in messages]}
    if tools:
        body["tools"] = [dict(tool) for tool in tools]
    return body


def parse(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises `ValueError`, or `ReportedError` where it holds an error."""
    try:
        value: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not a JSON object")  # noqa: TRY004  # whatever is nonsense in an answer is one kind of error
    found = cast("dict[str, Any]", value)
    if found.get("error"):
        raise ReportedError(found["error"])
    return found


def error_text(body: Any) -> str:
    """What an error's body says: its message, wherever APIs put it; empty where there is none."""
    for key in ("error", "message", "detail"):
        inner = _member(body, key)
        if inner:
            return error_text(inner)
    return body if isinstance(body, str) else ""


def whole(answer: Mapping[str, Any], pieces: Pieces) -> ModelResponse:
    """A complete answer. `pieces`: fresh ones; they know the usage even where this raises `ValueError`."""
    pieces.take_frame(answer)
    choice = _first_choice(answer)
    message = _member(choice, "message")
    if not isinstance(message, Mapping):
        raise ValueError("its answer has no message")  # noqa: TRY004
    pieces.take_message(cast("Mapping[str, Any]", message))
    pieces.finish_reason = _word(_member(choice, "finish_reason"))
    return pieces.response()


@dataclass(slots=True)
class _Call:
    """A tool call of which pieces have come."""

    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Pieces:
    """An answer that comes in pieces."""

    model: str
    """The model that answers; the one that was asked until the API says otherwise."""
    complete: bool = False
    """Whether the API has said that this is all."""
    finish_reason: str | None = None
    """Why the model stopped."""
    id: str | None = None
    """The API's own id of the answer."""
    _text: list[str] = field(default_factory=list[str])
    _calls: dict[int, _Call] = field(default_factory=dict[int, _Call])
    _tokens_in: int | None = None
    _tokens_out: int | None = None
    _cached: int | None = None
    _cache_written: int | None = None
    _reasoning: int | None = None
    _cost: float | None = None

    def add(self, piece: Mapping[str, Any]) -> str:
        """Take one streamed piece. Returns its text, which may be empty. Raises `ValueError`."""
        self.take_frame(piece)
        choice = _first_choice(piece) if piece.get("choices") else None
        delta = _member(choice, "delta")
        text = self.take_message(cast("Mapping[str, Any]", delta)) if isinstance(delta, Mapping) else ""
        reason = _word(_member(choice, "finish_reason"))
        if reason is not None:
            self.finish_reason, self.complete = reason, True
        return text

    def take_frame(self, answer: Mapping[str, Any]) -> None:
        """What stands around the message: model, id and usage."""
        self.model = _word(answer.get("model")) or self.model
        self.id = self.id or _word(answer.get("id"))
        usage = answer.get("usage")
        if isinstance(usage, Mapping):
            self._take_usage(cast("Mapping[str, Any]", usage))

    def _take_usage(self, usage: Mapping[str, Any]) -> None:
        """OpenAI's members; that of DeepSeek for cached tokens; those of OpenRouter for what was cached and what it costs."""
        read, written = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        self._tokens_in = _count(usage.get("prompt_tokens"))
        self._tokens_out = _count(usage.get("completion_tokens"))
        self._cached = _count(_member(read, "cached_tokens"))
        if self._cached is None:
            self._cached = _count(usage.get("prompt_cache_hit_tokens"))
        self._cache_written = _count(_member(read, "cache_write_tokens"))
        self._reasoning = _count(_member(written, "reasoning_tokens"))
        self._cost = _dollars(usage.get("cost"))

    @property
    def tokens(self) -> tuple[int | None, int | None]:
        """How many tokens were read and written, as far as that was told yet."""
        return self._tokens_in, self._tokens_out

    def take_message(self, message: Mapping[str, Any]) -> str:
        """A message, or a piece of one. Returns its text. Raises `ValueError`."""
        text = _text(message.get("content")) or _text(message.get("refusal"))
        if text:
            self._text.append(text)
        for position, call in enumerate(_list(message.get("tool_calls"), "tool_calls")):
            self._take_call(call, position)
        return text

    def _take_call(self, piece: Any, position: int) -> None:
        given, index = _word(_member(piece, "id")) or "", _count(_member(piece, "index"))
        if index is None:
            index = self._place(given, position)
        call = self._calls.setdefault(index, _Call())
        call.id = call.id or given
        function = _member(piece, "function")
        call.name = call.name or _word(_member(function, "name")) or ""
        arguments = _member(function, "arguments")
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None:
            call.arguments.append(json.dumps(arguments))

    def _place(self, given: str, position: int) -> int:
        """For APIs that send no index: the call of that id, a new one for a new id, the last one for none."""
        for index, call in self._calls.items():
            if given and call.id == given:
                return index
        if given or not self._calls:
            return len(self._calls)
        return max(position, *self._calls)

    def response(self) -> ModelResponse:
        """Everything that came. Raises `ValueError` where a tool call cannot be made of it."""
        calls = tuple(self._tool_call(index, call) for index, call in sorted(self._calls.items()))
        return ModelResponse(
            content="".join(self._text),
            model=self.model,
            tokens_in=self._tokens_in,
            tokens_out=self._tokens_out,
            tool_calls=calls,
            finish_reason=self.finish_reason,
            id=self.id,
            cost_usd=self._cost,
            tokens_cached=self._cached,
            tokens_cache_written=self._cache_written,
            tokens_reasoning=self._reasoning,
        )

    def _tool_call(self, index: int, call: _Call) -> ToolCall:
        if not call.name:
            raise ValueError("a tool call names no tool")
        text = "".join(call.arguments)
        try:
            arguments: Any = json.loads(text, parse_constant=_no_constant) if text.strip() else {}
        except (ValueError, RecursionError):
            why = " (the answer was cut at the model's length limit)" if self.finish_reason == "length" else ""
            raise ValueError(f"the arguments of its call of the tool {call.name!r} are not JSON{why}") from None
        if not isinstance(arguments, dict):
            raise ValueError(f"the arguments of its call of the tool {call.name!r} are not a JSON object")  # noqa: TRY004
        return ToolCall(call.id or f"call_{index}", call.name, cast("dict[str, Any]", arguments))


# --- looking into what strangers send ---------------------------------------------------------------------------------


def _member(value: Any, key: str) -> Any:
    return cast("Mapping[str, Any]", value).get(key) if isinstance(value, Mapping) else None


def _first_choice(answer: Mapping[str, Any]) -> Any:
    choices = _list(answer.get("choices"), "choices")
    if not choices:
        raise ValueError("its answer has no choices")
    return choices[0]


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"the {name!r} of its answer is not a list")  # noqa: TRY004
    return cast("list[Any]", value)


def _text(content: Any) -> str:
    """Text, also where it comes as a list of parts."""
    if isinstance(content, list):
        return "".join(_text(_member(part, "text")) for part in cast("list[Any]", content))
    return content if isinstance(content, str) else ""


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    """A number of something; what cannot be one is not known."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


def _dollars(value: Any) -> float | None:
    """An amount of money that can be one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1_000_000 else None  # noqa: PLR2004  # no answer costs more


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
