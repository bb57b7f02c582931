"""The ports that the kernel and the agents call; what implements them lives in rooms above.

The supervisor hands implementations to a process with `bind(services)` before `on_start`. Every port has an in-memory twin:
`MemoryStore`, `MemoryCommit` and `DetachedContext` in `kernel/memory.py`, `JsonCodec` in `kernel/codec.py`,
`ScriptedModel` in `llm/scripted.py`, `Toolbox` in `agents/toolbox.py`.
Nothing here is an implementation, and nothing here knows HTTP, MCP or pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from portico.kernel.events import KernelEvent
    from portico.kernel.messages import Message
    from portico.kernel.process import AgentProcess


# --- models -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool."""

    id: str
    """The model's own id of this call; the tool's result names it."""
    name: str
    """The tool's name as it was offered to the model."""
    arguments: dict[str, Any]
    """The arguments, already parsed from JSON."""


@dataclass(frozen=True, slots=True)
class ModelResponse:
    """What a model answered to one request."""

    content: str
    """The text; empty where the model only calls tools."""
    model: str
    """The model that answered, as the provider names it."""
    tokens_in: int | None = None
    """Tokens read; None where the provider did not say (unknown, which is not zero)."""
    tokens_out: int | None = None
    """Tokens written; None where the provider did not say."""
    cost_usd: float | None = None
    """The price in US dollars; None where it is not known."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that the model wants called before it goes on."""
    finish_reason: str | None = None
    """Why the model stopped, in the provider's word."""


class ModelProvider(Protocol):
    """One verb for every model: chat with tools, whole or streamed.

    `messages` are mappings in the OpenAI chat form (`role`, `content`, `tool_calls`, `tool_call_id`), `tools` mappings in the
    OpenAI function form (`{"type": "function", "function": {"name", "description", "parameters"}}`): plain JSON-able data.

    Raises:
        ModelError: the provider refused, failed, or answered nonsense.
    """

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> ModelResponse:
        """One answer, when it is complete."""
        ...

    def stream(
        self, model: str, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> AsyncIterator[str | ModelResponse]:
        """Pieces of text as they come, and last the whole `ModelResponse`."""
        ...


# --- tools ------------------------------------------------------------------------------------------------------------


class Tool(Protocol):
    """One thing that an agent or a model can call."""

    @property
    def name(self) -> str:
        """How it is addressed: a plain name, or `mcp://server/tool`."""
        ...

    @property
    def description(self) -> str:
        """What it does, for a model to read."""
        ...

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """JSON Schema (2020-12) of the arguments: an object."""
        ...

    async def execute(self, **arguments: Any) -> Any:
        """Call it. The arguments are checked against the schema first.

        Raises:
            ToolError: with a text that a model can act on.
        """
        ...


class ToolSet(Protocol):
    """The tools that an agent can use: `self.tools`."""

    def get(self, name: str) -> Tool:
        """The tool of that name. Raises `UnknownTool`, which offers the nearest names."""
        ...

    def names(self) -> list[str]:
        """All names, sorted."""
        ...

    def __iter__(self) -> Iterator[Tool]:
        """Every tool, in the order of `names()`."""
        ...

    async def connect_mcp(self, config: Any) -> list[str]:
        """Connect an external MCP server; returns the names of its tools (`mcp://server/tool`)."""
        ...


# --- state ------------------------------------------------------------------------------------------------------------


class StateStore(Protocol):
    """Records by key. A record is JSON-able data; what is put is a copy, what is got is a copy."""

    async def get(self, key: str) -> Any | None:
        """The record, or None."""
        ...

    async def put(self, key: str, value: Any) -> None:
        """Store the record under the key, in place of an earlier one."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the record, if there is one."""
        ...

    async def keys(self, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, sorted."""
        ...


class Commit(Protocol):
    """What makes a handled message final. Awaited before the caller sees its reply."""

    async def load(self, name: str) -> dict[str, Any]:
        """The last committed state of the process, as a fresh copy; empty at first."""
        ...

    async def commit(self, message: Message, reply: Message | None, state: dict[str, Any] | None, sends: Sequence[Message]) -> None:
        """Store, all or nothing: the process's state (None: untouched), the reply, and the messages that it sent."""
        ...


class Codec(Protocol):
    """Messages' payloads to bytes and back."""

    def encode(self, value: Any) -> bytes:
        """Raises `ValueError` where the value is not JSON-able data."""
        ...

    def decode(self, data: bytes) -> Any:
        """The value again."""
        ...


# --- what a handler is given ------------------------------------------------------------------------------------------


@runtime_checkable
class Context(Protocol):
    """The handle of a run, given to a handler that names a parameter `ctx: Context`."""

    @property
    def run_id(self) -> str:
        """The id of the run that this message belongs to; empty outside any run."""
        ...

    @property
    def principal(self) -> str | None:
        """Who asked, where the gateway knows."""
        ...

    @property
    def attempt(self) -> int:
        """How often this message was delivered before (0 the first time)."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled; long loops without an await look here."""
        ...

    def remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        ...

    def emit(self, event_type: str, data: Any = None) -> None:
        """Append an event to the run; its streams see it at once."""
        ...

    def delta(self, text: str) -> None:
        """A piece of the answer, for streams."""
        ...

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """How far the work is."""
        ...


class Journal(Protocol):
    """Where a run's events go: what `Context` writes to. Implemented by `runs`."""

    @property
    def run_id(self) -> str:
        """The id of the run."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled."""
        ...

    def append(self, event_type: str, data: Any = None) -> None:
        """Append one numbered event."""
        ...


class Invocable(Protocol):
    """What a decorated method carries, so that the kernel can call it without knowing contracts."""

    @property
    def name(self) -> str:
        """The message type that calls it."""
        ...

    @property
    def idempotent(self) -> bool | None:
        """False: never handled twice. None and True: handled again after a crash."""
        ...

    @property
    def none_is_a_reply(self) -> bool:
        """True for `-> None` and `-> X | None`: returning nothing is a reply."""
        ...

    def prepare(self) -> None:
        """Make what the first call would else have to make. Called before `on_start`; what it raises is a start failure."""
        ...

    async def invoke(self, process: AgentProcess, message: Message) -> Any:
        """Bind the payload to the method's parameters, call it, and return its reply as plain data."""
        ...


# --- observers --------------------------------------------------------------------------------------------------------


class Observer(Protocol):
    """Sees everything, changes nothing. What a hook raises is logged and forgotten."""

    def event(self, event: KernelEvent) -> None:
        """Something happened: a process started, ended, was restarted, a message became a dead letter."""
        ...

    def handling(self, message: Message) -> AbstractContextManager[str | None] | None:
        """Around one handling. The context manager may yield a `traceparent` that outgoing messages then carry."""
        ...


class Faults(Protocol):
    """What goes wrong on purpose: for tests of a tree, never part of one in production. See `portico.testing.FaultPlan`."""

    async def before(self, process: AgentProcess, message: Message) -> None:
        """Before each handling, in the process's own task. What it raises is the handler's; what it waits, the handler waits."""
        ...


@dataclass(slots=True)
class Services:
    """What a process is bound to. Made by the runtime, one for the whole tree."""

    llm: ModelProvider | None = None
    """The model provider: `self.llm`."""
    tools: ToolSet | None = None
    """The tools: `self.tools`."""
    store: StateStore | None = None
    """Records of the agents' own: `self.store`."""
    commit: Commit | None = None
    """What makes a handled message final."""
    faults: Faults | None = None
    """What is injected before each handling."""
    observers: list[Observer] = field(default_factory=list[Observer])
    """Those who see everything."""
