"""Content: what was said to models and tools, as spans have it: JSON in the form of OpenTelemetry's conventions, without secrets.

Above: `outgoing.py`, which asks for it only where `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` is set. What the contract of
the operation in hand calls secret is masked wherever it is said again; so is what a tool's schema calls secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, cast

from portico.operations.secrets import MASK, masked, places_of
from portico.telemetry.redaction import differences, secrets_of, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import ModelCall, ModelResponse, ToolExecution
    from portico.operations.secrets import Place

LONGEST: Final = 65_536
"""Characters of one attribute; what is longer is cut, and no JSON any more."""


class Content:
    """What may be said of one call: without the secrets of what its agent has in hand."""

    def __init__(self, delivery: Delivery | None) -> None:
        self._secrets = spellings(secrets_of(delivery)) if delivery is not None else []

    @classmethod
    def said(cls, call: ModelCall) -> Self:
        """Of a call of a model: without what is secret of what the tools on offer were given, too."""
        content = cls(call.delivery)
        content.hide(_secrets_of_tools(call.messages, call.response, call.tools or ()))
        return content

    @classmethod
    def done(cls, call: ToolExecution) -> Self:
        """Of a call of a tool."""
        content = cls(call.delivery)
        content.hide(secrets_given(call))
        return content

    def hide(self, more: Iterable[str]) -> None:
        """These are not said either."""
        self._secrets = sorted({*self._secrets, *spellings(more)}, key=len, reverse=True)

    def input(self, messages: Iterable[Mapping[str, Any]]) -> str:
        """A conversation but for its instructions: `gen_ai.input.messages`."""
        return self._told([_message(one) for one in messages if one.get("role") != "system"])

    def instructions(self, messages: Iterable[Mapping[str, Any]]) -> str | None:
        """What the model was told before: `gen_ai.system_instructions`; None where nothing."""
        found = [part for one in messages if one.get("role") == "system" for part in _texts(one.get("content"))]
        return self._told(found) if found else None

    def output(self, response: ModelResponse) -> str:
        """The answer: `gen_ai.output.messages`."""
        parts = _texts(response.content)
        parts += [{"type": "tool_call", "id": one.id, "name": one.name, "arguments": one.arguments} for one in response.tool_calls]
        return self._told([{"role": "assistant", "parts": parts, "finish_reason": response.finish_reason or ""}])

    def arguments(self, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
        """What a tool is given, whose `schema` tells its secrets."""
        return self._told(masked(dict(arguments), places_of(schema))[0])

    def result(self, result: Any) -> str:
        """What a tool gave."""
        return self._told(result)

    def _told(self, value: Any) -> str:
        text = json.dumps(self._clean(value), ensure_ascii=False, default=_foreign)
        return text if len(text) <= LONGEST else text[:LONGEST]

    def _clean(self, value: Any) -> Any:
        if not self._secrets:
            return value
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, Mapping):
            return {self._clean(key): self._clean(item) for key, item in cast("Mapping[Any, Any]", value).items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in cast("Sequence[Any]", value)]
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in self._secrets:
            return MASK
        return value


def secrets_given(call: ToolExecution) -> Iterator[str]:
    """What a tool was given that its schema calls secret."""
    arguments = dict(call.arguments)
    return differences(arguments, masked(arguments, places_of(call.schema))[0])


def _secrets_of_tools(
    messages: Iterable[Mapping[str, Any]], response: ModelResponse | None, tools: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """What models gave to tools that these call secret, in this answer or earlier in the conversation."""
    places: dict[Any, Place] = {}
    for offered in tools:
        function: Mapping[str, Any] = offered.get("function") or {}
        if (place := places_of(function.get("parameters") or {})) is not None:
            places[function.get("name")] = place
    if not places:
        return
    given = [(one.name, one.arguments) for one in response.tool_calls] if response is not None else []
    for message in messages:
        for call in cast("Iterable[Mapping[str, Any]]", message.get("tool_calls") or ()):
            function = call.get("function") or {}
            with suppress(ValueError, TypeError):
                given.append((function.get("name", ""), json.loads(function.get("arguments") or "{}")))
    for name, arguments in given:
        yield from differences(arguments, masked(arguments, places.get(name))[0])


def _message(said: Mapping[str, Any]) -> dict[str, Any]:
    if said.get("role") == "tool":
        part = {"type": "tool_call_response", "id": said.get("tool_call_id"), "response": said.get("content")}
        return {"role": "tool", "parts": [part]}
    parts = _texts(said.get("content"))
    for call in cast("Iterable[Mapping[str, Any]]", said.get("tool_calls") or ()):
        function: Mapping[str, Any] = call.get("function") or {}
        parts.append(
            {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
        )
    return {"role": said.get("role") or "user", "parts": parts}


def _texts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, list):
        return [{"type": "text", "content": part.get("text", "")} for part in cast("list[Mapping[str, Any]]", content)]
    return [{"type": "text", "content": content}] if isinstance(content, str) and content else []


def _foreign(value: Any) -> str:
    return f"<{type(value).__name__}>"
