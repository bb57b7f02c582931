"""Operation: one thing that an agent can be asked. It becomes an HTTP route, an OpenAPI operation and an MCP tool.

The decorators make it and attach it to the method; the kernel calls `invoke`; the faces read the rest. Types are compiled on
first use, so that decorating costs nothing at import.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from portico.errors import InvalidOperation
from portico.kernel.messages import DEFAULT_TYPE, Message
from portico.kernel.process import DEFERRED
from portico.operations.contract import ANYTHING, Contract
from portico.operations.signature import Signature, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.kernel.process import AgentProcess
    from portico.operations.members import Members
    from portico.operations.offers import PromptSpec, ResourceSpec


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A declared HTTP route of an operation."""

    method: str
    """The HTTP method, in upper case."""
    path: str
    """The path template: `/chat/{session_id}`."""
    mode: str = "ask"
    """`ask` waits for the reply, `send` answers 202."""
    timeout: float | None = None
    """Seconds that an ask may take; None for the gateway's default."""
    on_disconnect: str | None = None
    """`cancel` or `continue` when the client leaves; None for the default of its mode."""
    durable: bool = False
    """Its asks are stored before they are handled, as sends are, and survive the program."""
    scopes: tuple[str, ...] = ()
    """What a caller needs to be allowed, beside what the operation and its agent need."""
    interceptors: tuple[Any, ...] = ()
    """Around each of its calls: `async (call, next)`, the outermost first; each a function or its dotted path."""
    middleware: tuple[Any, ...] = ()
    """ASGI middleware classes around its requests, and no other route's, the outermost first; each a class or its dotted path."""


@dataclass(slots=True, eq=False)
class Operation:
    """What the decorators know of a handler method."""

    name: str
    """The message type that calls it, and the last segment of its default route."""
    attribute: str
    """The method's name."""
    function: Callable[..., Any] | None = None
    """The method as it was decorated; None for a bare `handle()`."""
    namespace: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Names local to where the method was written, for its type hints."""
    title: str = ""
    """For people; empty for the name."""
    description: str = ""
    """For people and models: the docstring, unless said otherwise."""
    idempotent: bool | None = None
    """True: handling it twice does what handling it once does. False: never handled twice. None: nothing is promised."""
    read_only: bool | None = None
    """True: it changes nothing."""
    destructive: bool | None = None
    """True: it may destroy something."""
    task: bool | Literal["required"] | None = None
    """Whether a call is a task for MCP clients that know tasks: True: at once. None: when it takes long. False: never.

    `required`: at once, and other clients are refused. With either, its calls by MCP are stored before they are handled.
    """
    errors: Mapping[str, int] = field(default_factory=dict[str, int])
    """The slugs that it may raise as `AgentError`, with their HTTP status hints."""
    scopes: tuple[str, ...] = ()
    """What a caller needs to be allowed."""
    request: Any = None
    """The request type that a decorator gave; None to read it from the type hints."""
    response: Any = None
    """The reply type that a decorator gave; None to read it from the type hints."""
    routes: list[RouteSpec] = field(default_factory=list[RouteSpec])
    """The routes that `@route` declared."""
    resource: ResourceSpec | None = None
    """That it is something to read, by `@resource`."""
    prompt: PromptSpec | None = None
    """That it gives words for a model, by `@prompt`."""
    said: bool = False
    """Whether `@operation` says so: then it is a tool as well, whatever else it is."""
    _signature: Signature | None = None
    _contract: Contract | None = None
    _members: Members | None = None
    _blocking: bool = False
    _takes_request_alone: bool = False

    @property
    def is_tool(self) -> bool:
        """Whether models may call it. A resource or a prompt is no tool unless it says `@operation` as well."""
        return self.said or (self.resource is None and self.prompt is None)

    @property
    def completed_by(self) -> Mapping[str, str]:
        """Which operation of the agent completes an argument, by the argument's name."""
        prompt: Mapping[str, str] = self.prompt.complete if self.prompt is not None else {}
        return {**prompt, **self.resource.complete} if self.resource is not None else prompt

    # --- what it takes and gives --------------------------------------------------------------------------------------

    @property
    def signature(self) -> Signature:
        """How the method wants to be called. Raises `InvalidOperation`."""
        if self._signature is None:
            if self.function is None:
                self._signature = Signature(ANYTHING, ANYTHING, None, (), None, "message")
            else:
                self._signature = read(self.function, self.namespace, self.request)
                self._blocking = not inspect.iscoroutinefunction(self.function)
                others = (self._signature.context, self._signature.message, *self._signature.members)
                self._takes_request_alone = self._signature.whole is not None and not any(others) and not self._blocking
        return self._signature

    @property
    def contract(self) -> Contract:
        """The compiled validators. Raises `InvalidOperation` for types that pydantic cannot take."""
        if self._contract is None:
            signature = self.signature
            request = self.request if self.request is not None else signature.request
            reply = self.response if self.response is not None else signature.reply
            try:
                self._contract = Contract(self.name, request, ANYTHING if reply is None else reply)
            except Exception as error:
                raise InvalidOperation(f"The contract of {self.attribute!r} cannot be compiled: {error}") from error
        return self._contract

    @property
    def returns_nothing(self) -> bool:
        """Whether it says `-> None`."""
        return self.response is None and self.signature.reply is None

    @property
    def none_is_a_reply(self) -> bool:
        """Whether returning nothing satisfies the contract: `-> None`, `-> X | None`."""
        return self.returns_nothing or self.contract.takes_none

    @property
    def request_schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the request."""
        return self.contract.request_schema()

    @property
    def response_schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the reply; `{}` where anything goes."""
        return self.contract.reply_schema()

    @property
    def members(self) -> Members:
        """What each member of the request takes, for who has only text."""
        if self._members is None:
            from portico.operations.members import Members  # noqa: PLC0415  # it imports pydantic

            self._members = Members(self.request_schema)
        return self._members

    @property
    def request_members(self) -> set[str] | None:
        """The members that the contract names; None where it names none (anything goes)."""
        schema = self.request_schema
        if "$ref" in schema:
            schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
        return set(schema["properties"]) if "properties" in schema else None

    # --- calling it ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Compile the contract, so that the first call does not hold up the event loop. Raises `InvalidOperation`."""
        _ = self.contract
        if self.resource is not None:
            self._check_variables(self.resource)
        for name in self.completed_by:
            if name not in self.members.about:
                raise InvalidOperation(f"{self.attribute!r} does not take {name!r}, which is to be completed.")

    def _check_variables(self, resource: ResourceSpec) -> None:
        """What is read takes the variables of its address, and nothing else that must be said."""
        names, variables = self.members.names or frozenset(), resource.variables
        for name in variables:
            if name not in names:
                raise InvalidOperation(f"{self.attribute!r} does not take {name!r}, a variable of its address {resource.uri!r}.")
        for name in sorted(self.members.required.difference(variables)):
            raise InvalidOperation(f"{self.attribute!r} needs {name!r}, which its address {resource.uri!r} does not say.")

    async def invoke(self, process: AgentProcess, message: Message) -> Any:
        """Bind the payload, call the method, and return its reply as plain data, or as the `Message` that it made.

        Raises:
            ContractViolation, InvalidReply: and whatever the method raises.
        """
        contract = self._contract or self.contract
        request = message.local
        if request is None:
            request = contract.accept(message.payload)
        if self._takes_request_alone:  # the usual form, without a detour
            result = await getattr(process, self.attribute)(request)
        else:
            arguments = self._arguments(process, message, request)
            method = getattr(process, self.attribute)
            result = await (process.run_to_end(method, **arguments) if self._blocking else method(**arguments))
        if result is DEFERRED or (result is None and self.returns_nothing):
            return result
        if isinstance(result, Message):
            result.payload = contract.reply(process.name, result.payload)
            return result
        return contract.reply(process.name, result) if result is not None else None

    def _arguments(self, process: AgentProcess, message: Message, request: Any) -> dict[str, Any]:
        """What the method is called with."""
        signature = self.signature
        arguments: dict[str, Any] = {member: getattr(request, member) for member in signature.members}
        if signature.whole is not None:
            arguments[signature.whole] = request
        if signature.context is not None:
            arguments[signature.context] = process.context
        if signature.message is not None:
            arguments[signature.message] = message
        return arguments


BARE_DESCRIPTION = "Send a message to the agent."


def bare(description: str = "") -> Operation:
    """The operation of an agent that only has `handle()`: any JSON in, any JSON out."""
    return Operation(name=DEFAULT_TYPE, attribute="handle", description=description or BARE_DESCRIPTION)
