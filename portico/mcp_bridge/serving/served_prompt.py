"""ServedPrompt: one endpoint of the catalogue as an MCP prompt. Arguments in, payload out; reply in, messages out.

Above: `prompts.py`, which speaks the protocol. Below: operations. It neither calls anything nor knows who calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from mcp.types import GetPromptResult, Prompt, PromptArgument
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from portico.errors import ContractViolation, InvalidReply
from portico.mcp_bridge.serving.content_blocks import blocks_of
from portico.operations.contract import faults_of
from portico.operations.offers import PromptSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.messages import Message
    from portico.operations.catalogue import Endpoint


@dataclass(frozen=True, slots=True)
class ServedPrompt:
    """What `prompts/list` shows of an endpoint, and how `prompts/get` translates."""

    endpoint: Endpoint
    """What is called."""
    listed: Prompt
    """As it is listed."""

    def payload(self, arguments: Mapping[str, str] | None) -> dict[str, Any]:
        """The payload that the arguments stand for: they are all text. Raises `ContractViolation` for one that there is not."""
        given, members = arguments or {}, self.endpoint.operation.members
        faults = [
            {"path": f"/{name}", "message": "Unknown argument", "type": "extra"} for name in given if name not in members.about
        ]
        if faults:
            raise ContractViolation(self.listed.name, faults)
        return {name: members.read(name, text) for name, text in given.items()}

    def result(self, reply: Message) -> GetPromptResult:
        """The messages that a reply becomes. Raises `InvalidReply` for one that is none."""
        where = self.endpoint.agent, self.endpoint.operation.name
        try:
            said = to_jsonable_python(reply.payload, by_alias=True)
        except PydanticSerializationError as error:
            raise InvalidReply.not_json(*where, error) from error
        try:
            return GetPromptResult.model_validate({"description": self.listed.description, **_messages(said)})
        except ValidationError as error:
            raise InvalidReply(*where, faults_of(error)) from None


def served_prompt(name: str, endpoint: Endpoint) -> ServedPrompt:
    """The prompt of an endpoint, under this name. Raises `InvalidOperation` for types that cannot become a contract."""
    operation = endpoint.operation
    spec, members = operation.prompt or PromptSpec(name), operation.members
    arguments = [
        PromptArgument(
            name=argument,
            title=_words(about.get("title"), argument),
            description=about.get("description"),
            required=argument in members.required,
        )
        for argument, about in members.about.items()
    ]
    listed = Prompt(
        name=name,
        title=spec.title or operation.title or None,
        description=spec.description or endpoint.description or None,
        arguments=arguments,
    )
    return ServedPrompt(endpoint, listed)


def _messages(said: Any) -> dict[str, Any]:
    """What an agent said as the members of a result: one message or several, or already a mapping with `messages`."""
    if _is_mapping(said) and "messages" in said:
        return {**said, "messages": [_message(one) for one in said["messages"]]}
    return {"messages": [_message(one) for one in (cast("list[Any]", said) if isinstance(said, list) else [said])]}


def _message(said: Any) -> Any:
    """One message: a text, or a piece of content, is the user's."""
    message = said if _is_mapping(said) and "role" in said else {"role": "user", "content": said}
    content = message.get("content")
    if isinstance(content, str):
        return {**message, "content": {"type": "text", "text": content}}
    if _is_mapping(content) and "media_type" in content:  # as `portico.operations.content` has it, where MCP says `mimeType`
        return {**message, "content": _block(content)}
    return message


def _block(content: Mapping[str, Any]) -> Any:
    """Content in the form of MCP; as it is where it is none, and then the result's validation says what is wrong."""
    try:
        return blocks_of(content)[0].model_dump(by_alias=True, exclude_none=True)
    except (KeyError, ValueError):
        return content


def _is_mapping(said: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(said, dict)


def _words(title: Any, name: str) -> str | None:
    """The title that somebody gave; pydantic makes one of the name where nobody did, and that says nothing."""
    return title if isinstance(title, str) and title != name.replace("_", " ").title() else None
