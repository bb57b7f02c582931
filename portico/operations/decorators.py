"""The decorators `operation`, `contract`, `route`, `resource` and `prompt`. They only attach data to a method; in any order.

    class Chat(AgentProcess):
        @route("POST", "/chat/{session_id}")
        async def chat(self, request: ChatRequest) -> ChatResponse: ...

Below: `operation.py`, what they attach.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from portico.errors import InvalidOperation, did_you_mean, nearest
from portico.kernel.messages import DEFAULT_TYPE, reserved
from portico.kernel.process import MARK
from portico.operations.offers import PromptSpec, ResourceSpec, checked_uri
from portico.operations.operation import Operation, RouteSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

F = TypeVar("F", bound="Callable[..., Any]")

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The HTTP methods that a route can have."""
MODES = {"ask": "ask", "call": "ask", "send": "send", "cast": "send"}
"""The modes of a route, with the seed's names for them."""
FRAMES_OF_OURS = 3
"""What stands between the class body and the place that looks for its names: the decorator and two helpers."""
SCOPE = re.compile(r"[!#-\[\]-~]+")
"""What a scope may be (RFC 6749 §3.3)."""
RESERVED_NAMES = frozenset({"cast", "state", "ws", "suspend", "resume", "restart", "drain"})
"""Operation names that would hide the gateway's own routes below `/agents/{name}/`."""


def _attached(function: Callable[..., Any]) -> Operation:
    found: Operation | None = getattr(function, MARK, None)
    if found is None:
        name = DEFAULT_TYPE if function.__name__ == "handle" else function.__name__
        found = Operation(
            name=_checked_name(name),
            attribute=function.__name__,
            function=function,
            namespace=_enclosing_names(function),
            description=inspect.getdoc(function) or "",
        )
        setattr(function, MARK, found)
    return found


def _enclosing_names(function: Callable[..., Any]) -> Mapping[str, Any]:
    """For a class that is defined inside a function: that function's names, since type hints are strings."""
    if "<locals>" not in function.__qualname__:
        return {}
    names: dict[str, Any] = {}
    frame = inspect.currentframe()
    for depth in range(6):
        if frame is None:
            break
        if depth >= FRAMES_OF_OURS:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def _checked_name(name: str) -> str:
    if name in RESERVED_NAMES or reserved(name):
        raise InvalidOperation(f"An operation cannot be named {name!r}, which the gateway uses. Give another: @operation(name=…).")
    return name


@overload
def operation(function: F, /) -> F: ...
@overload
def operation(
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    idempotent: bool | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    task: bool | Literal["required"] | None = None,
    errors: Mapping[str, int] | None = None,
    scopes: Sequence[str] | None = None,
) -> Callable[[F], F]: ...
def operation(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    idempotent: bool | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    task: bool | Literal["required"] | None = None,
    errors: Mapping[str, int] | None = None,
    scopes: Sequence[str] | None = None,
) -> Any:
    """Make a method an operation. Used bare (`@operation`) or with keywords.

    Args:
        function: the method, where it is used bare.
        name: what it is called in messages, routes and tools; the method's name unless given.
        title: for people.
        description: for people and models; the docstring unless given.
        idempotent: False lets it never be handled twice, True promises that twice is as once.
        read_only: it changes nothing.
        destructive: it may destroy something.
        task: True makes each call a task for MCP clients that know tasks, `"required"` refuses all others, False never makes one.
            Unless given, a call becomes a task when it takes long.
        errors: the slugs that it raises as `AgentError`, each with its HTTP status.
        scopes: what a caller needs to be allowed, where the gateway knows its callers.

    Raises:
        InvalidOperation: a reserved name, a scope that cannot be, or another word for `task`.
    """
    if task not in (None, True, False, "required"):
        raise InvalidOperation(f"@operation(task={task!r}): it must be True, False or 'required'.")

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        found = _attached(method)
        found.said = True
        if name is not None:
            found.name = _checked_name(name)
        given = {
            "title": title,
            "description": description,
            "idempotent": idempotent,
            "read_only": read_only,
            "destructive": destructive,
            "task": task,
            "errors": errors,
            "scopes": checked_scopes(scopes) if scopes is not None else None,
        }
        for key, value in given.items():
            if value is not None:
                setattr(found, key, value)
        return method

    return decorate(function) if function is not None else decorate


def contract(*, request: Any = None, response: Any = None) -> Callable[[F], F]:
    """Give a method's request and reply types explicitly: any type that pydantic takes. Wins over type hints."""

    def decorate(method: F) -> F:
        found = _attached(method)
        found.request = request if request is not None else found.request
        found.response = response if response is not None else found.response
        return method

    return decorate


def route(
    method: str,
    path: str,
    *,
    mode: str = "ask",
    timeout: float | None = None,
    on_disconnect: str | None = None,
    durable: bool = False,
    scopes: Sequence[str] = (),
    interceptors: Sequence[Any] = (),
    middleware: Sequence[Any] = (),
) -> Callable[[F], F]:
    """Serve a method at an HTTP route. Path parameters that its contract names become members of the payload.

    Args:
        method: an HTTP method.
        path: a template that begins with `/`; parameters in braces.
        mode: `ask` (or `call`) waits for the reply, `send` (or `cast`) answers 202.
        timeout: seconds that an ask may take; the gateway's default unless given.
        on_disconnect: `cancel` or `continue` when the client leaves.
        durable: store its asks before they are handled, as sends are, so that they survive the program.
        scopes: what a caller needs to be allowed here, beside what the operation needs.
        interceptors: around each of its calls: `async (call, next)`, the outermost first.
        middleware: ASGI middleware classes around the requests of this route, the outermost first.

    Raises:
        InvalidOperation: a method, path, mode or scope that cannot be, an interceptor or middleware that cannot be called.
    """
    for one in (*interceptors, *middleware):
        if not callable(one):
            raise InvalidOperation(
                f"What stands around {method} {path} must be callable, and {one!r} is not: give the thing itself."
            )
    spec = route_spec(
        method,
        path,
        mode=mode,
        timeout=timeout,
        on_disconnect=on_disconnect,
        durable=durable,
        scopes=scopes,
        interceptors=interceptors,
        middleware=middleware,
    )

    def decorate(function: F) -> F:
        _attached(function).routes.append(spec)
        return function

    return decorate


def resource(
    uri: str,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    mime_type: str | None = None,
    complete: Mapping[str, str] | None = None,
) -> Callable[[F], F]:
    """Let a method be read at an address, by MCP clients. It is no tool then, unless it says `@operation` as well.

    Text is read as it is, bytes as they are, anything else as JSON. When it has changed, the agent says
    `self.resource_updated(uri)`.

    Args:
        uri: the address: a URI, or a template of RFC 6570 (`notes://{topic}`) whose variables are what the method takes.
        name: what it is called in lists; the method's name unless given.
        title: for people.
        description: for people and models; the docstring unless given.
        mime_type: of what is read; by its type unless given.
        complete: the operation of this agent that completes a variable, by the variable's name: it takes `value`, what was written
            so far, and returns a list of texts.

    Raises:
        InvalidOperation: an address that cannot be read.
    """
    address = checked_uri(uri)

    def decorate(function: F) -> F:
        found = _attached(function)
        found.resource = ResourceSpec(
            address, name or function.__name__, title or "", description or "", mime_type, dict(complete or {})
        )
        found.read_only = True if found.read_only is None else found.read_only
        return function

    return decorate


@overload
def prompt(function: F, /) -> F: ...
@overload
def prompt(
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    complete: Mapping[str, str] | None = None,
) -> Callable[[F], F]: ...
def prompt(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    complete: Mapping[str, str] | None = None,
) -> Any:
    """Let a method give words for a model, to MCP clients. It is no tool then, unless it says `@operation` as well.

    It returns a text, which is the user's message, or a list of messages: texts, or mappings with `role` (`user`, `assistant`) and
    `content`. Used bare (`@prompt`) or with keywords.

    Args:
        function: the method, where it is used bare.
        name: what it is called; the method's name unless given.
        title: for people.
        description: for people and models; the docstring unless given.
        complete: the operation of this agent that completes an argument, by the argument's name: it takes `value`, what was written
            so far, and returns a list of texts.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        _attached(method).prompt = PromptSpec(name or method.__name__, title or "", description or "", dict(complete or {}))
        return method

    return decorate(function) if function is not None else decorate


def route_spec(
    method: str,
    path: str,
    *,
    mode: str = "ask",
    timeout: float | None = None,
    on_disconnect: str | None = None,
    durable: bool = False,
    scopes: Sequence[str] = (),
    interceptors: Sequence[Any] = (),
    middleware: Sequence[Any] = (),
) -> RouteSpec:
    """A checked route. Raises `InvalidOperation` as `route` does."""
    if method.upper() not in METHODS:
        raise InvalidOperation(f"A route cannot have the method {method!r}. Known: {', '.join(METHODS)}.")
    if not path.startswith("/"):
        raise InvalidOperation(f"The path {path!r} of a route must begin with '/'.")
    if mode.lower() not in MODES:
        hint = did_you_mean(nearest(mode.lower(), MODES)) or f" Known: {', '.join(MODES)}."
        raise InvalidOperation(f"The mode {mode!r} of {method} {path} is unknown.{hint}")
    if on_disconnect not in (None, "cancel", "continue"):
        raise InvalidOperation(f"on_disconnect of {method} {path} is {on_disconnect!r}: it can be 'cancel' or 'continue'.")
    if type(durable) is not bool:
        raise InvalidOperation(f"durable of {method} {path} is {durable!r}: it can be true or false.")
    return RouteSpec(
        method.upper(),
        path,
        MODES[mode.lower()],
        timeout,
        on_disconnect,
        durable,
        checked_scopes(scopes),
        tuple(interceptors),
        tuple(middleware),
    )


def checked_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Scopes as a tuple. Raises `InvalidOperation` for one that no token can have (RFC 6749 §3.3)."""
    if isinstance(scopes, str):
        raise InvalidOperation(f"scopes is {scopes!r}: give a list of scopes, such as [{scopes!r}].")
    for scope in scopes:
        if not isinstance(scope, str) or not SCOPE.fullmatch(scope):  # pyright: ignore[reportUnnecessaryIsInstance]  # users give it
            raise InvalidOperation(f"{scope!r} is no scope: it must be visible ASCII without blanks, quotes and backslashes.")
    return tuple(scopes)
