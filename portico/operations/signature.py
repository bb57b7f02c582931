"""Signature: how a handler method wants to be called, read from its parameters and type hints.

    async def chat(self, request: ChatRequest) -> ChatResponse     the whole payload is a ChatRequest
    async def add(self, a: int, b: int = 0, ctx: Context) -> int   the payload is an object with the members a and b
    async def handle(self, message: Message)                       the message itself

Above: `operation.py`, which calls the method as it wants.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, cast

from portico.errors import InvalidOperation
from portico.kernel.messages import Message
from portico.kernel.protocols import Context
from portico.operations.contract import ANYTHING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler takes and gives."""

    request: Any
    """The type of the payload; `ANYTHING` where none is given."""
    reply: Any
    """The type of the reply; `ANYTHING` where none is given, None for `-> None`."""
    whole: str | None
    """The parameter that takes the whole request; None where its members are spread over several."""
    members: tuple[str, ...]
    """The parameters that take members of the payload."""
    context: str | None
    """The parameter that takes the `Context`."""
    message: str | None
    """The parameter that takes the `Message`."""


def read(function: Callable[..., Any], namespace: Mapping[str, Any], request: Any = None) -> Signature:
    """Read a method's signature. `namespace` resolves names that are local to where it was written.

    `request`: the type of the payload, where a decorator gave it. What has no members goes whole to the only parameter.

    Raises:
        InvalidOperation: a type hint that cannot be resolved, a parameter without a name to call it by.
    """
    where = f"{function.__module__}.{function.__qualname__}"
    try:
        hints = typing.get_type_hints(function, localns=dict(namespace), include_extras=True)
    except Exception as error:
        raise InvalidOperation(f"A type hint of {where} cannot be resolved: {error}") from error
    context = message = None
    fields: dict[str, tuple[Any, Any]] = {}
    for parameter in _named_parameters(function, where):
        hint = hints.get(parameter.name, ANYTHING)
        if hint is Context or (hint is ANYTHING and parameter.name == "ctx"):
            context = parameter.name
        elif hint is Message or (hint is ANYTHING and parameter.name == "message"):
            message = parameter.name
        else:
            fields[parameter.name] = (hint, parameter.default)
    reply = hints.get("return", ANYTHING)
    if reply is Message or reply is Any:
        reply = ANYTHING
    elif reply is type(None):
        reply = None
    if len(fields) == 1:
        ((name, (hint, _)),) = fields.items()
        if is_whole(hint) or (request is not None and not is_whole(request)):
            return Signature(hint, reply, name, (), context, message)
    if not fields:
        return Signature(ANYTHING, reply, None, (), context, message)
    return Signature(_object(where, fields), reply, None, tuple(fields), context, message)


def _named_parameters(function: Callable[..., Any], where: str) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        unnamed = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY)
        if unnamed or parameter.name.startswith("_"):
            raise InvalidOperation(f"{where} takes {parameter}: the members of a request need names, and none begins with '_'.")
    return parameters


def is_whole(hint: Any) -> bool:
    """Whether a single parameter of this type takes the whole payload, rather than the member of its name."""
    if hint is ANYTHING or hint is Any:
        return True
    origin = typing.get_origin(hint) or hint
    if origin is typing.Annotated:
        return is_whole(typing.get_args(hint)[0])
    if origin is types.UnionType or not isinstance(origin, type):
        members = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return bool(members) and all(is_whole(member) for member in members)
    if issubclass(origin, Mapping):
        return True
    if issubclass(origin, Sequence) and not issubclass(origin, str | bytes):
        return True
    kind = cast("Any", origin)
    return hasattr(kind, "model_fields") or hasattr(kind, "__required_keys__") or is_dataclass(kind)


def _object(where: str, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    from pydantic import ConfigDict, create_model  # noqa: PLC0415  # `import portico` stays light

    def field(hint: Any, default: Any) -> tuple[Any, Any]:
        return (Any if hint is ANYTHING else hint, ... if default is inspect.Parameter.empty else default)

    definitions: dict[str, Any] = {name: field(*about) for name, about in fields.items()}
    try:
        return create_model(where.rpartition(".")[2], __config__=ConfigDict(extra="forbid", protected_namespaces=()), **definitions)
    except Exception as error:
        raise InvalidOperation(f"The parameters of {where} cannot be members of a request: {error}") from error
