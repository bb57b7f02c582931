"""The ports that the kernel and the agents call; what implements them lives in rooms above.

The supervisor hands implementations to a process with `bind(services)` before `on_start`. Every port has an in-memory twin:
`MemoryStore` and `MemoryCommit` in `kernel/memory.py`, `JsonCodec` in `kernel/codec.py`,
`ScriptedModel` in `llm/scripted.py`, `Toolbox` in `agents/toolbox.py`, `FaultPlan` in `testing/fault_plan.py`.
Nothing here is an implementation, and nothing here knows HTTP, MCP or pydantic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from decimal import Decimal

    from portico.kernel.delivery import Delivery
    from portico.kernel.detours import Parked, Transferred
    from portico.kernel.events import KernelEvent
    from portico.kernel.mailbox import Mailbox
    from portico.kernel.messages import Message
    from portico.kernel.process import AgentProcess
    from portico.kernel.questions import Messages, Question


# --- models -----------------------------------------------------------------------------------------------------------

MOST_TOKENS: Final = 2**40
"""No call takes more: a provider that says so is mistaken, and how many they were is not known. Sums of these can be stored."""


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
    id: str | None = None
    """The provider's own id of this answer."""
    tokens_cached: int | None = None
    """Those among the tokens read that came from the provider's cache; None where the provider did not say."""
    tokens_cache_written: int | None = None
    """Those among the tokens read that were put into the provider's cache; None where the provider did not say."""
    tokens_reasoning: int | None = None
    """Those among the tokens written that nobody is shown; None where the provider did not say."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Who answers to a model's name."""

    provider: str
    """The provider, as the settings name it."""
    model: str
    """The model, as the provider is asked for it."""
    vendor: str
    """Whose kind of API that is, in the words of OpenTelemetry's `gen_ai.provider.name`: `openai`, `azure.ai.openai` …"""
    url: str | None = None
    """Where it is asked, without credentials; None where that is in this program."""


@runtime_checkable
class KnowsModels(Protocol):
    """A model provider that can say who answers to a model's name. One that cannot is called by the name of its class."""

    def identify(self, model: str) -> ModelIdentity:
        """Who would answer. It asks nobody. Raises `ModelError` where nobody would."""
        ...


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


class Pricing(Protocol):
    """What answers of models cost: `portico.llm.prices.Prices`. Asked only where a provider has not told the price itself."""

    def cost(self, identity: ModelIdentity, response: ModelResponse) -> Decimal | None:
        """The price of one answer in US dollars; None where it is not known."""
        ...

    def warm_up(self, identity: ModelIdentity) -> None:
        """A model is about to be called: what takes long to make may be made now, on a thread. Called before each call."""
        ...

    async def ready(self, identity: ModelIdentity, response: ModelResponse) -> None:
        """Until that is made, where it is needed for this answer. Awaited before each `cost`, which holds up the event loop."""
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


@runtime_checkable
class ForModel(Protocol):
    """A tool's result that knows what of it a model should read: bytes, for instance, say nothing to it."""

    def for_model(self) -> str:
        """The text."""
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


@dataclass(slots=True)
class Lineage:
    """Commits that build on each other, such as those of one incarnation: where one was not stored, no later one is."""

    broken: Exception | None = None
    """Why; set by whoever stores."""


Ended: TypeAlias = "Callable[[Exception | None], object]"
"""Called once, on the event loop: with None when everything is stored for good, else with what was in the way."""


class Commit(Protocol):
    """What makes a handled message final: nobody sees its reply before its state is stored.

    A commit is submitted and does not hold up the next message: an implementation on a disk stores many of them at once.
    """

    async def open(self) -> Mapping[str, str]:
        """Make it ready, before anything starts. Returns the reason of each suspension that was stored, by name of the process.

        Raises:
            LifecycleError: it cannot be used.
        """
        ...

    async def close(self) -> None:
        """Store what was submitted, and let go of it; after everything has stopped."""
        ...

    async def load(self, name: str) -> dict[str, Any]:
        """The last state of the process that was submitted, as a fresh copy; empty at first."""
        ...

    def commit(self, name: str, state: Mapping[str, Any], ended: Ended, lineage: Lineage) -> None:
        """Store the state of a process, after everything that was submitted before. It is copied at once.

        `ended` may be called before this returns. Raises `ValueError` where the state is not JSON-able.
        """
        ...

    def forget(self, name: str) -> None:
        """The process has ended: what was kept at hand for it may go. What is stored stays."""
        ...

    def suspended(self, name: str, reason: str | None) -> None:
        """Remember that a process was suspended; None: that it was resumed."""
        ...

    async def settled(self) -> None:
        """Until everything that was submitted before is stored, or is known not to be."""
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


class Required:
    """Stands for a default that was not given."""


REQUIRED: Final = Required()


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

    def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """Tell those who follow the run something: an event `log`, and a log message to an MCP client that wants it.

        Args:
            level: `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert` or `emergency` (RFC 5424).
            data: a text, or any JSON data.
            logger: which part of the program tells it.

        Raises:
            ValueError: there is no such level.
        """
        ...

    def metric(self, name: str, value: float, *, unit: str = "", **tags: str) -> None:
        """Note a number of the run's own: an event `metric`, in the run's story and for sinks.

        Args:
            name: what is measured: `pages.read`.
            value: the number.
            unit: its unit, in the words of UCUM: `s`, `By`, `{page}`.
            tags: what it is of.

        Raises:
            ValueError: infinity, or what is no number.
        """
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller gave along with the call: `metadata` of `POST /runs`."""
        ...

    @property
    def input_messages(self) -> list[Any]:
        """The chat messages of the request: its member `messages`, or the text of its `message` as one message of the user."""
        ...

    @property
    def tools(self) -> ToolSet:
        """The runtime's tools. Raises `LifecycleError` where it was given none."""
        ...

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        retries: int = 0,
        retry_delay: float = 1.0,
        timeout: float | None = None,
        checkpoint: bool = True,
    ) -> Any:
        """Call `function` and store its result, so that it is not computed again when this message is handled again.

        Args:
            name: of the step; one that comes again in one handling is another step.
            function: takes nothing, or the `StepCall`, whose `key` an outside service can use to notice a second attempt.
            retries: how often it is called again after it has raised.
            retry_delay: seconds before each of these.
            timeout: seconds that one call of it may take.
            checkpoint: False: its result is not stored, and computed again.

        Returns:
            The result as JSON data, the first time as well.

        Raises:
            TypeError: the result is not JSON-able.
            TimeoutError: it took too long, and its retries are spent; or whatever it raised last.
            StoreUnavailable: the result could not be stored.
        """
        ...

    async def wait_input(self, prompt: str, schema: Any = None, *, timeout: float | None = None, default: Any = REQUIRED) -> Any:
        """Wait for somebody's input, which comes by `POST /runs/{id}/input`.

        The handler ends here and holds nobody up. When the input has come, the message is handled again from its beginning, stored
        steps are not computed again, and this returns the input.

        Args:
            prompt: what is asked, for a person.
            schema: what the input must be: a JSON Schema, or a type that pydantic takes; None for anything.
            timeout: seconds to wait; None without limit.
            default: what is returned after `timeout`; without one, this raises.

        Raises:
            InputTimeout: nobody answered in time.
            InputDeclined: who was asked declined.
            LifecycleError: outside a run.
        """
        ...

    async def wait_inputs(
        self, asked: Mapping[str, Question], *, timeout: float | None = None, default: Any = REQUIRED
    ) -> dict[str, Any]:
        """Ask several things at once, and wait for all the answers: `{name: Question.input("Who?", str), …}`.

        Returns:
            The answers, by the same names; or `default`.

        Raises: as `wait_input`.
        """
        ...

    async def visit(self, url: str, prompt: str, *, timeout: float | None = None, default: Any = REQUIRED) -> Any:
        """Ask a person to open an address, such as that of a login or a payment. Returns True when that was agreed to.

        Raises: as `wait_input`.
        """
        ...

    async def sample(
        self, messages: Messages, *, max_tokens: int = 1000, timeout: float | None = None, default: Any = REQUIRED, **more: Any
    ) -> dict[str, Any]:
        """Let the model of the caller's own program write the next message: that of an MCP client, in place of `self.llm`.

        Args:
            messages: a text, or a list of `role` and `content`.
            max_tokens: how long the message may be.
            timeout: seconds to wait; None without limit.
            default: what is returned after `timeout`.
            more: `system_prompt`, `temperature` and whatever else `Question.sample` takes.

        Returns:
            `role`, `content` (a block such as `{"type": "text", "text": …}`), `model`, `stopReason`.

        Raises: as `wait_input`.
        """
        ...

    async def roots(self, *, timeout: float | None = None, default: Any = REQUIRED) -> list[dict[str, Any]]:
        """Ask the caller's program which folders it works in: each has a `uri`, and may have a `name`. Raises: as `wait_input`."""
        ...

    def can_ask(self, kind: str) -> bool:
        """Whether the caller's program answers that kind: "input", "visit", "sample" or "roots". True where that is not known."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; in a run that is stored, the wait survives a restart of the program, and holds nobody up."""
        ...

    def transfer(self, agent: str, payload: Any, *, operation: str | None = None, reason: str = "") -> NoReturn:
        """Let another agent go on with this run: its reply is the run's. The handler ends here; its state and sends are kept.

        Raises:
            UnknownAgent: there is no agent of that name.
        """
        ...

    async def checkpoint(self, state: Any) -> None:
        """Store where the handler is, for `get_state` when this message is handled again: any JSON data."""
        ...

    async def get_state(self) -> Any:
        """What the last `checkpoint` of this run stored; None before the first."""
        ...


class Journal(Protocol):
    """The run's end of a `Context`: where its events go, and what it keeps. Implemented by `runs`.

    A delivery carries it; what is asked while that is handled carries the same, or (in a durable run) one of its own.
    """

    @property
    def run_id(self) -> str:
        """The id of the run."""
        ...

    @property
    def cancelled(self) -> bool:
        """True once the run was cancelled."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """See `Context.metadata`."""
        ...

    @property
    def durable(self) -> DurableJournal | None:
        """The same, where the run is kept in a store: what its handlers send waits for the commit, and they ask nothing twice."""
        ...

    def append(self, event_type: str, data: Any = None) -> None:
        """Append one numbered event."""
        ...

    async def step(
        self, name: str, function: Callable[..., Any], *, retries: int, retry_delay: float, timeout: float | None, checkpoint: bool
    ) -> Any:
        """See `Context.step`."""
        ...

    async def wait_inputs(self, asked: Mapping[str, Question] | Question, *, timeout: float | None, default: Any) -> Any:
        """See `Context.wait_inputs`; one question, or several by name. Raises `Parked` where there is no input yet."""
        ...

    @property
    def answerable(self) -> frozenset[str] | None:
        """Which kinds of questions (`questions.INPUT` and its like) the caller's program answers; None where that is not known."""
        ...

    async def wait_here(self, asked: Question, *, timeout: float | None) -> Any:
        """Wait for somebody's answer without leaving the handler, for what cannot be left: a call that is under way elsewhere.

        The agent is held up meanwhile, and nothing is kept over an end of the program. `timeout` in seconds.

        Raises:
            InputTimeout: nobody answered in time.
            InputDeclined: whoever was asked declined.
            InvalidOperation: a schema that is none.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """See `Context.sleep`. Raises `Parked` where the wait is long."""
        ...

    async def checkpoint(self, state: Any) -> None:
        """See `Context.checkpoint`."""
        ...

    def get_state(self) -> Any:
        """See `Context.get_state`."""
        ...

    def moves(self, delivery: Delivery, transferred: Transferred) -> None:
        """A handling has ended in a transfer, and what it leaves behind is stored: another agent goes on."""
        ...

    def park(self, delivery: Delivery, parked: Parked) -> None:
        """A handling has ended in a wait: see that the delivery comes back when that is over."""
        ...


class DurableJournal(Journal, Protocol):
    """The journal of a run that is kept in a store."""

    async def begin(self, delivery: Delivery, *, once: bool) -> bool:
        """Before each handling, in the process's own task. `once`: it must never begin twice.

        Returns whether it may begin: not where the run was never stored, or has ended meanwhile.
        """
        ...

    def commit(
        self,
        name: str,
        state: Mapping[str, Any] | None,
        reply: Message | None,
        ended: Ended,
        lineage: Lineage,
        transferred: Transferred | None = None,
    ) -> None:
        """A handling is over: store what it leaves behind, all or nothing.

        That is the state of the process (None: untouched), the reply, or where the run goes on (`transferred`), the events, and
        what was held back by `send`. Raises `ValueError` where any of it is not JSON-able.
        """
        ...

    def again(self, delivery: Delivery) -> None:
        """A commit could not be stored: see that the delivery comes back."""
        ...

    def send(self, message: Message) -> None:
        """Hold a message back until the commit; what is not committed is never sent."""
        ...

    def asked(self, recipient: str, message_type: str, payload: Any) -> tuple[Journal, Message | None, Transferred | None]:
        """The handling in hand asks somebody.

        Returns the journal of that; the reply, where it was committed before; and who goes on, where that was.
        """
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


@dataclass(slots=True, eq=False)
class ModelCall:
    """One call of a model, from before it is made: observers keep it until their context manager is left. Not theirs to change."""

    agent: str
    """Who calls."""
    identity: ModelIdentity
    """Who is asked."""
    messages: Sequence[Mapping[str, Any]]
    """The conversation."""
    tools: Sequence[Mapping[str, Any]] | None
    """The tools on offer."""
    streamed: bool
    """Whether the answer is taken piece by piece."""
    delivery: Delivery | None
    """What the agent has in hand; None outside any handling."""
    first_piece_after: float | None = None
    """Seconds until the first piece of a streamed answer."""
    response: ModelResponse | None = None
    """The answer, once it is complete."""
    error: BaseException | None = None
    """Why there is none. `GeneratorExit`: whoever took the pieces wanted no more; `CancelledError`: nobody waits any longer."""


@dataclass(slots=True, eq=False)
class Exchange:
    """How a tool of an external MCP server was called. The bridge fills it in as it comes to know it."""

    transport: str = ""
    """`pipe`, or `tcp`."""
    address: str | None = None
    """The server's host; None over pipes."""
    port: int | None = None
    """And its port."""
    protocol_version: str | None = None
    """Of MCP."""
    session_id: str | None = None
    """Of the session, where there is one."""
    request_id: str | None = None
    """Of the JSON-RPC request, the last one where it was sent again."""
    sent: int = 0
    """How often the call was sent."""
    error_code: int | None = None
    """Of the JSON-RPC error that the server answered with."""
    failed: bool = False
    """Whether its answer is the error of the tool."""


@dataclass(slots=True, eq=False)
class ToolExecution:
    """One call of a tool, from before it is made: observers keep it until their context manager is left. Not theirs to change."""

    agent: str
    """Who calls."""
    tool: str
    """The tool's own name: plain, or `mcp://server/tool`."""
    arguments: Mapping[str, Any]
    """What it is given."""
    call_id: str | None
    """The model's id of the call; None where no model wanted it."""
    description: str
    """What the tool says of itself."""
    schema: Mapping[str, Any]
    """JSON Schema of the arguments."""
    delivery: Delivery | None
    """What the agent has in hand; None outside any handling."""
    traceparent: str | None = None
    """What is sent meanwhile carries this; None: what the delivery says."""
    tracestate: str | None = None
    """Goes with it to other programs; set by whoever makes the trace."""
    exchange: Exchange | None = None
    """How an external server was called; None for tools of this program."""
    result: Any = None
    """What it gave."""
    error: BaseException | None = None
    """Why it gave nothing."""

    @property
    def server(self) -> str | None:
        """The external MCP server that has the tool; None for tools of this program."""
        return self.tool[6:].partition("/")[0] if self.tool.startswith("mcp://") else None


class WatchesCalls(Protocol):
    """What an observer may have besides: hooks around what agents call. Either may be missing; with neither, nothing is in the way.

    An `Observer` is asked for them by name, so that one without is one still; `Services.listeners` have nothing else. What a hook
    raises is logged and forgotten. How a call ended stands in its record when the context manager is left, and not in what that is
    given.
    """

    def calling_model(self, call: ModelCall) -> AbstractContextManager[Any] | None:
        """Around one call of a model. A streamed one is left wherever its pieces are taken: it sets no context variables."""
        ...

    def calling_tool(self, call: ToolExecution) -> AbstractContextManager[str | None] | None:
        """Around one call of a tool. The context manager may yield the `traceparent` that what is sent meanwhile carries."""
        ...


class Faults(Protocol):
    """What goes wrong on purpose: for tests of a tree, never part of one in production. See `portico.testing.FaultPlan`."""

    async def before(self, process: AgentProcess, message: Message) -> None:
        """Before each handling, in the process's own task. What it raises is the handler's; what it waits, the handler waits."""
        ...


class HandlingMeter(Protocol):
    """Is told of every handling. It stands on the way of every message: it takes well below a microsecond, and never raises."""

    def handled(self, mailbox: Mailbox, message_type: str, seconds: float) -> None:
        """A message was handled, well or not, in so many seconds; the time for which it waited is not among them."""
        ...


@dataclass(slots=True)
class Services:
    """What a process is bound to. Made by the runtime, one for the whole tree."""

    llm: ModelProvider | None = None
    """The model provider: `self.llm`."""
    prices: Pricing | None = None
    """What models cost, where their providers do not tell."""
    tools: ToolSet | None = None
    """The tools: `self.tools`."""
    store: StateStore | None = None
    """Records of the agents' own: `self.store`."""
    commit: Commit | None = None
    """What makes a handled message final."""
    faults: Faults | None = None
    """What is injected before each handling."""
    observers: list[Observer] = field(default_factory=list[Observer])
    """Those who see everything: each handling takes the long way round because of them."""
    listeners: list[WatchesCalls] = field(default_factory=list[WatchesCalls])
    """Those who only hear of calls of models and tools, and cost a handling nothing."""
    sinks: Sequence[object] = ()
    """Who takes the events of runs and what models took, as `portico.runs.sinks` has it."""
    runs: object | None = None
    """What is known of the runs of this runtime; made and used by the room of that name."""
    buried: Callable[[Delivery, str], object] | None = None
    """Called with every message that will not be delivered (again), and the reason."""
    meters: list[HandlingMeter] = field(default_factory=list[HandlingMeter])
    """Those who are told how long each handling took."""
