"""Question: one thing that a waiting handler wants to know, and from whom: a person, the model or the program of its caller.

Plain data, as `Context.wait_inputs` takes it. Above: whoever asks, and the run, which keeps it as JSON data while it waits. What
protocol carries it to the caller is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INPUT: Final = "input"
"""A person fills something in."""
VISIT: Final = "visit"
"""A person opens an address, and says whether it was done."""
SAMPLE: Final = "sample"
"""The model of the caller's program writes the next message."""
ROOTS: Final = "roots"
"""The caller's program tells which folders it works in."""

Messages: TypeAlias = "str | Sequence[Mapping[str, Any]]"
"""Chat messages: `role` and `content`: a text, a content block such as `{"type": "text", "text": …}`, or a list of blocks."""

SAMPLE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "role": {"enum": ["assistant", "user"]},
        "content": {"type": ["object", "array"], "description": "A content block, such as {type: text, text: …}, or several."},
        "model": {"type": "string", "description": "Which model has written it."},
        "stopReason": {"type": "string"},
    },
    "required": ["role", "content", "model"],
}
"""What a model's message is: the result of `sampling/createMessage` of the Model Context Protocol."""

ROOTS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "roots": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"uri": {"type": "string"}, "name": {"type": "string"}},
                "required": ["uri"],
            },
        }
    },
    "required": ["roots"],
}
"""What folders are: the result of `roots/list` of the Model Context Protocol."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question: made by `Question.input`, `.visit`, `.sample` or `.roots`."""

    asks: str
    """Whom, and what for: `INPUT`, `VISIT`, `SAMPLE` or `ROOTS`."""
    prompt: str
    """What is asked, for a person."""
    schema: Any = None
    """What the answer must be: a JSON Schema, or a type that pydantic takes; None for anything."""
    params: Mapping[str, Any] | None = None
    """What belongs to a question of this kind, as JSON data."""

    @classmethod
    def input(cls, prompt: str, schema: Any = None) -> Question:
        """A person fills something in. The answer is what `schema` says."""
        return cls(INPUT, prompt, schema)

    @classmethod
    def visit(cls, url: str, prompt: str) -> Question:
        """A person opens an address. The answer is True; what was done there, the agent learns elsewhere."""
        return cls(VISIT, prompt, {"const": True}, {"url": url})

    @classmethod
    def sample(cls, messages: Messages, *, max_tokens: int = 1000, **more: Any) -> Question:
        """The caller's model writes the next message. The answer is an object: `role`, `content`, `model`.

        Args:
            messages: the chat so far; a text stands for one message of the user.
            max_tokens: how long the message may be.
            more: `system_prompt`, `temperature`, `stop_sequences`, `model_preferences`, `include_context`, `tools`, `tool_choice`,
                `metadata`, each as the Model Context Protocol has it.
        """
        given: list[Mapping[str, Any]] = [{"role": "user", "content": messages}] if isinstance(messages, str) else [*messages]
        chat = [{**message, "content": _blocks(message["content"])} for message in given]
        params = {"messages": chat, "max_tokens": max_tokens, **{name: value for name, value in more.items() if value is not None}}
        return cls(SAMPLE, "The model of the caller is to write the next message.", SAMPLE_SCHEMA, params)

    @classmethod
    def roots(cls) -> Question:
        """The caller's program tells its folders. The answer has them as `roots`: each with a `uri`, and perhaps a `name`."""
        return cls(ROOTS, "Which folders does the caller work in?", ROOTS_SCHEMA)


def _blocks(content: Any) -> Any:
    return {"type": "text", "text": content} if isinstance(content, str) else content
