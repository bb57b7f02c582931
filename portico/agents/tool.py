"""Tool: a Python function that a model can call. Name, description and schema are read from the function; arguments are checked.

    Tool.from_function(add)                 def add(a: int, b: int = 0) -> int: ...
    @tool on a method of a ModelAgent       a parameter `ctx: Context` gets the run's handle, and no model sees it

Above: `Toolbox` and `ModelAgent`. It implements the kernel's port `Tool`; tools of MCP servers are another implementation.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from portico.errors import ConfigurationError, PorticoError, ToolError, did_you_mean, nearest
from portico.kernel.context import MessageContext
from portico.kernel.current import current
from portico.kernel.protocols import Context

if TYPE_CHECKING:
    from portico.kernel import protocols

logger = logging.getLogger("portico.agents")

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__portico_tool__"
_MOST_FAULTS: Final = 5


@dataclass(frozen=True, slots=True)
class _Mark:
    """What `@tool` attaches to a method."""

    name: str | None
    description: str | None


@dataclass(frozen=True, slots=True)
class Tool:
    """One function, callable by a model."""

    name: str
    """How it is addressed."""
    description: str
    """What it does, for a model to read."""
    input_schema: Mapping[str, Any]
    """JSON Schema (2020-12) of the arguments: an object."""
    function: Callable[..., Any]
    """What is called: in a thread, unless it is a coroutine function."""
    _arguments: type[BaseModel] = field(repr=False)
    _parameters: Mapping[str, str] = field(repr=False)
    _context: str | None = field(default=None, repr=False)

    @classmethod
    def from_function(cls, function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> Self:
        """Make a tool of a function or a method.

        Args:
            function: its type hints become the schema; a parameter hinted `Context` gets the run's handle.
            name: the function's name unless given.
            description: the docstring unless given.

        Raises:
            ConfigurationError: a function that cannot be a tool.
        """
        if not inspect.isroutine(function):
            raise ConfigurationError(f"{function!r} cannot be a tool: it is not a function. Wrap it in one.")
        called = name or function.__name__
        hints = _hints(function, called)
        parameters = _parameters(function, called)
        context = next((key for key in parameters if hints.get(key) is Context or (key == "ctx" and key not in hints)), None)
        # Fields have neutral names: a parameter may be called `schema` or `_x`, which pydantic keeps for itself.
        names = {f"p{index}": key for index, key in enumerate(key for key in parameters if key != context)}
        fields: dict[str, Any] = {
            key: _field(hints.get(parameter, Any), parameters[parameter], parameter) for key, parameter in names.items()
        }
        try:
            model = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
            schema = model.model_json_schema(schema_generator=_Untitled)
        except Exception as error:
            raise ConfigurationError(f"{called!r} cannot be a tool: its parameters have no JSON Schema: {error}") from error
        schema.pop("title", None)
        return cls(called, description or inspect.getdoc(function) or "", schema, function, model, names, context)

    async def execute(self, /, **arguments: Any) -> Any:
        """See `Tool.execute` in `kernel/protocols.py`. The run's handle is that of the message in hand, if there is one."""
        return await self.call(arguments, MessageContext(None, current.get()))

    async def call(self, arguments: Mapping[str, Any], ctx: Context) -> Any:
        """Check the arguments, call the function, and return its result as JSON-able data.

        Raises:
            ToolError: with a text that a model can act on. Of an exception that nobody meant for a reader only the name is told,
                but for `ValueError`, by which Python functions speak about their arguments.
        """
        given = self._checked(arguments)
        if self._context is not None:
            given[self._context] = ctx
        try:
            return self._plain(await self._run(given))
        except ToolError:
            raise
        except (PorticoError, ValueError) as error:
            raise ToolError(f"The tool {self.name!r} failed: {error}") from error
        except Exception as error:
            logger.exception("the tool %r failed", self.name)
            raise ToolError(f"The tool {self.name!r} failed: {type(error).__name__}.") from error

    async def _run(self, arguments: Mapping[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self.function):
            return await self.function(**arguments)
        result = await asyncio.to_thread(self.function, **arguments)
        return await result if inspect.isawaitable(result) else result

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            model = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise ToolError(f"The arguments of {self.name!r} are not valid: {self._faults(error)}.") from None
        return {name: getattr(model, key) for key, name in self._parameters.items()}

    def _faults(self, error: ValidationError) -> str:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        told = [self._fault(".".join(map(str, fault["loc"])), fault["type"], fault["msg"]) for fault in faults[:_MOST_FAULTS]]
        return "; ".join([*told, *([f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else [])])

    def _fault(self, where: str, kind: str, text: str) -> str:
        if kind == "extra_forbidden":
            hint = did_you_mean(nearest(where, self._parameters.values())).removesuffix("?")
            return f"{where}: there is no such argument.{hint}" if hint else f"{where}: there is no such argument"
        return f"{where}: {text}"

    def _plain(self, result: Any) -> Any:
        try:
            return to_jsonable_python(result, inf_nan_mode="null", bytes_mode="base64")
        except (ValueError, RecursionError) as error:
            logger.error("the result of the tool %r is not JSON-able: %s", self.name, error)  # noqa: TRY400  # whose traceback is known
            raise ToolError(f"The tool {self.name!r} gave a result that is not JSON-able: {type(result).__name__}.") from error


# --- the decorator ----------------------------------------------------------------------------------------------------


@typing.overload
def tool(function: F, /) -> F: ...
@typing.overload
def tool(*, name: str | None = None, description: str | None = None) -> Callable[[F], F]: ...
def tool(function: Callable[..., Any] | None = None, /, *, name: str | None = None, description: str | None = None) -> Any:
    """Offer a method of a `ModelAgent` to its model. Used bare (`@tool`) or with keywords. It only attaches data.

    The tool has the method's name and its docstring, unless `name` and `description` say otherwise.
    """

    def decorate(method: F) -> F:
        setattr(method, _MARK, _Mark(name, description))
        return method

    return decorate(function) if function is not None else decorate


def tools_of(owner: object) -> list[Tool]:
    """A tool for each method that `@tool` has marked, bound to its owner. Raises `ConfigurationError`."""
    found: dict[str, _Mark] = {}
    for base in reversed(type(owner).__mro__):
        for attribute, value in vars(base).items():
            mark = getattr(value, _MARK, None)
            if isinstance(mark, _Mark):
                found[attribute] = mark
            else:
                found.pop(attribute, None)  # overridden by something that is no tool
    return [
        Tool.from_function(getattr(owner, attribute), name=mark.name, description=mark.description)
        for attribute, mark in found.items()
    ]


def openai_form(tool: protocols.Tool, name: str | None = None) -> dict[str, Any]:
    """A tool as a model API is told of it, under another name where its own is not legal there."""
    about = {"name": name or tool.name, "description": tool.description, "parameters": dict(tool.input_schema)}
    return {"type": "function", "function": about}


# --- reading a function -----------------------------------------------------------------------------------------------


class _Untitled(GenerateJsonSchema):
    """A schema without the titles that pydantic makes of names: a model reads every word of it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def _hints(function: Callable[..., Any], called: str) -> dict[str, Any]:
    plain = inspect.unwrap(function)
    # `Context` is known even where it was imported for the type checker only.
    names = {"Context": Context, **getattr(plain, "__globals__", {})}
    try:
        return typing.get_type_hints(plain, globalns=names, include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"{called!r} cannot be a tool: a type hint cannot be resolved: {error}") from error


def _parameters(function: Callable[..., Any], called: str) -> dict[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError as error:
        raise ConfigurationError(f"{called!r} cannot be a tool: it has no signature.") from error
    for parameter in parameters.values():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise ConfigurationError(f"{called!r} cannot be a tool: its parameter {parameter.name!r} cannot be given by name.")
    return dict(parameters)


def _field(hint: Any, parameter: inspect.Parameter, name: str) -> tuple[Any, Any]:
    default = parameter.default
    if isinstance(default, FieldInfo):
        return Annotated[hint, default], Field(alias=name)
    if default is parameter.empty:
        return hint, Field(alias=name)
    return hint, Field(default=default, alias=name)
