"""AgentProcess: what a user writes. A mailbox, hooks, `handle()`; its identity is its name.

The machinery that runs it is in `incarnation.py`; the verbs here forward to the router that `bind()` hands over. A subclass
overrides hooks and adds operations (methods that a decorator of `portico.operations` has marked).
"""

from __future__ import annotations

from enum import StrEnum
from functools import wraps
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Final, ParamSpec, Self, TypeVar, cast

from portico.errors import LifecycleError, RuntimeNotStarted, SelfAsk, UnknownOperation, nearest
from portico.kernel.clock import sleep
from portico.kernel.current import current
from portico.kernel.events import EventKind
from portico.kernel.lifecycle import ProcessStatus
from portico.kernel.messages import CHILD_TERMINATED, DEFAULT_TYPE, Message, new_reply
from portico.kernel.recipe import Recipe
from portico.kernel.tap import Tap
from portico.kernel.words import at_least, not_negative, word

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from portico.kernel.dynamic_supervisor import DynamicSupervisor
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.protocols import Context, Invocable, ModelProvider, StateStore, ToolSet
    from portico.kernel.registry import Registry
    from portico.kernel.router import Router

P = ParamSpec("P")
R = TypeVar("R")

MARK: Final = "__portico_operation__"
"""The attribute under which a decorated method carries its `Invocable`."""


HANDLERS: Final = frozenset({"handle", "handle_call", "handle_cast", "handle_info"})
"""The methods that take messages: written as plain functions, they run in a thread."""


class ErrorAction(StrEnum):
    """What `on_error` chooses after a handler raised."""

    RETRY = "retry"
    """Handle the message again in this incarnation, after `self.retry_delay` seconds."""
    SKIP = "skip"
    """The caller gets `AgentCrashed`; the process goes on with the next message."""
    STOP = "stop"
    """The caller gets `AgentCrashed`; the process ends normally."""
    ESCALATE = "escalate"
    """The process crashes and its supervisor decides: the default."""


class Restart(StrEnum):
    """When a child that ended is started again; OTP's words."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """When it crashed."""
    TEMPORARY = "temporary"
    """Never."""


class _Deferred:
    """What `defer()` returns: the reply comes later, by `reply_to()`."""


DEFERRED: Final = _Deferred()


class AgentProcess:
    """A supervised process with a mailbox.

    Args:
        name: its identity in the runtime.
        mailbox_size: how many messages may wait; more are refused with `MailboxFull`.
        start_timeout: seconds that `on_start` may take.
        shutdown_timeout: seconds to finish the message in hand on a stop, and to obey a cancellation.
        handle_timeout: seconds that one handling may take before it counts as a crash; None for no limit.
        restart: `permanent`, `transient` or `temporary`; upper case is accepted.
        expose: whether the gateway serves it to the outside; None leaves it to the topology.
        scopes: what a caller from outside needs to be allowed, for every operation of it.

    Raises:
        ConfigurationError: an unknown restart, a negative number.
    """

    capabilities: ClassVar[list[str]] = []
    """What it can do: tags for `send_capable` and the registry."""
    capability_metadata: ClassVar[dict[str, Any]] = {}
    """More on each capability, by tag."""
    operations: ClassVar[Mapping[str, Invocable]] = {}
    """Its operations by name; collected from the decorated methods."""
    invocables: ClassVar[Mapping[str, Invocable]] = {}
    """Its operations, and what the runtime itself has to tell it."""
    retry_delay: float = 0.1
    """Seconds before `ErrorAction.RETRY` handles a message again."""
    trap_exits: ClassVar[bool] = False
    """True: the end of a linked process comes as an `EXIT` message instead of ending this one too."""
    internal: ClassVar[bool] = False
    """True for processes of the gateway itself: never served to the outside."""
    description: str = ""
    """What the outside reads about it; the class docstring unless given."""
    tag: ClassVar[str] = "agent"
    """What `print_tree` shows in brackets before its name."""

    spent: bool = False
    """True once it was started: the next incarnation needs a fresh instance."""
    kept_state: dict[str, Any]
    """For the incarnation, its other half: `state` without the touch."""
    state_touched: bool
    """For the incarnation: whether anybody had `state` in hand since it was last committed or rolled back."""
    recipe: Recipe
    """How it was made; shared by all incarnations of its place in the tree."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        found: dict[str, Invocable] = {}
        for base in reversed(cls.__mro__):
            for value in vars(base).values():
                operation = cast("Invocable | None", getattr(value, MARK, None))
                if operation is not None:
                    found[operation.name] = operation
        for name in HANDLERS & vars(cls).keys():
            handler = vars(cls)[name]
            if not iscoroutinefunction(handler):
                setattr(cls, name, _off_the_loop(handler))
        cls.operations = found
        cls.invocables = {**found, CHILD_TERMINATED: _ChildTerminated()}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments: a restart builds a fresh instance from them, so that nothing poisoned survives."""
        self = super().__new__(cls)
        self.recipe = Recipe(cls, args, kwargs)
        return self

    def __init__(
        self,
        name: str,
        *,
        mailbox_size: int = 1000,
        start_timeout: float = 30.0,
        shutdown_timeout: float = 5.0,
        handle_timeout: float | None = None,
        concurrency: int = 1,
        restart: str | Restart = Restart.PERMANENT,
        expose: bool | None = None,
        scopes: Sequence[str] = (),
    ) -> None:
        not_negative(
            repr(name),
            mailbox_size=mailbox_size,
            start_timeout=start_timeout,
            shutdown_timeout=shutdown_timeout,
            handle_timeout=handle_timeout,
        )
        at_least(1, repr(name), concurrency=concurrency)
        self.name = name
        self.mailbox_size = mailbox_size
        self.start_timeout = start_timeout
        self.shutdown_timeout = shutdown_timeout
        self.handle_timeout = handle_timeout
        self.concurrency = concurrency
        self.restart = word(Restart, restart, f"The restart of {name!r}")
        self.expose = expose
        self.scopes = tuple(scopes)
        self.config: Mapping[str, Any] = {}
        self.status = ProcessStatus.CREATED
        self.kept_state: dict[str, Any] = {}
        self.state_touched = False
        self._router: Router | None = None
        self._incarnation: Incarnation | None = None

    def fresh(self) -> AgentProcess:
        """A new instance from the same recipe: the same constructor arguments, and the class that stands for this place now."""
        return self.recipe.make()

    def adjust(self, **options: Any) -> Self:
        """Set what the constructor would have set, for classes that do not hand it on. Kept across restarts. Returns itself."""
        at_least(1, repr(self.name), concurrency=options.get("concurrency"))
        self.recipe.adjusted = {**self.recipe.adjusted, **options}
        for name, value in options.items():
            setattr(self, name, word(Restart, value, f"The restart of {self.name!r}") if name == "restart" else value)
        return self

    def bind(self, router: Router, incarnation: Incarnation) -> None:
        """Called by the supervisor before `on_start`."""
        self._router = router
        self._incarnation = incarnation

    # --- hooks --------------------------------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Before the first message of an incarnation, in the process's own task. What it raises is a start failure."""

    async def handle(self, message: Message) -> Any:
        """A message that no operation takes. Returns `self.reply(…)` or plain data; None means no reply.

        What it raises goes to `on_error`; an `AgentError` or another `PorticoError` goes to the caller.
        """
        raise UnknownOperation(self.name, message.type, nearest(message.type, self.operations))

    async def on_error(self, error: Exception, message: Message) -> ErrorAction:
        """After a handler raised. If this raises too, the process crashes."""
        del error, message
        return ErrorAction.ESCALATE

    async def on_stop(self) -> None:
        """At the end of every incarnation whose `on_start` succeeded, however it ended, within `shutdown_timeout`."""

    async def on_suspend(self, reason: str) -> None:
        """When it has been suspended, between two messages; also in an incarnation that starts suspended."""

    async def on_resume(self, approver: str) -> None:
        """When it has been resumed, before the next message. `approver`: who resumed it, where that was said."""

    async def on_child_terminated(self, name: str, reason: str) -> None:
        """After a process that this one has spawned has ended for good. Comes through the mailbox, as messages do."""

    # --- what it is given ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The name and the number of this incarnation: `echo#3`."""
        return f"{self.name}#{self._incarnation.number if self._incarnation else 0}"

    @property
    def state(self) -> dict[str, Any]:
        """JSON-able data that survives crashes. Changes are committed when a message was handled, else rolled back.

        Take it anew for every message (`self.state["n"] += 1`): only what was taken is committed. What a constructor puts
        here holds until something was committed.

        Raises:
            LifecycleError: the process handles several messages at once (`concurrency`), so no state belongs to one of them.
        """
        if self.concurrency > 1:
            raise LifecycleError(f"Agent {self.name!r} has concurrency={self.concurrency}: it has no self.state. Use self.store.")
        self.state_touched = True
        return self.kept_state

    @state.setter
    def state(self, value: dict[str, Any]) -> None:
        _ = self.state  # refused where there is none
        self.kept_state = value

    @property
    def router(self) -> Router:
        """The way to the others. Raises `RuntimeNotStarted` before the process is bound."""
        if self._router is None:
            raise RuntimeNotStarted
        return self._router

    @property
    def registry(self) -> Registry:
        """Who is there, and who can do what: `self.registry.find_by_capability("translate")`."""
        return self.router.registry

    @property
    def llm(self) -> ModelProvider:
        """The runtime's model provider. Raises `LifecycleError` where the runtime was given none."""
        services = self.router.services
        provider = services.llm
        if provider is None:
            raise LifecycleError(f"Agent {self.name!r} uses self.llm, but the runtime has none: Runtime(model_provider=…).")
        tap = Tap.of(self.router, self.name)
        return provider if tap is None else tap.model(provider)

    @property
    def tools(self) -> ToolSet:
        """The runtime's tools. Raises `LifecycleError` where the runtime was given none."""
        services = self.router.services
        tools = services.tools
        if tools is None:
            raise LifecycleError(f"Agent {self.name!r} uses self.tools, but the runtime has none: Runtime(tool_registry=…).")
        tap = Tap.of(self.router, self.name)
        return tools if tap is None else tap.tools(tools)

    @property
    def store(self) -> StateStore:
        """Records of the agents' own. Raises `LifecycleError` where the runtime was given no store."""
        store = self.router.services.store
        if store is None:
            raise LifecycleError(f"Agent {self.name!r} uses self.store, but the runtime has none: Runtime(state_store=…).")
        return store

    @property
    def context(self) -> Context:
        """The handle of the run in hand."""
        from portico.kernel.context import MessageContext  # noqa: PLC0415  # most handlers never ask for it

        return MessageContext(self, current.get())

    async def connect_mcp(self, config: Any) -> list[str]:
        """Connect an external MCP server; returns the names of its tools (`mcp://server/tool`)."""
        return await self.tools.connect_mcp(config)

    # --- verbs --------------------------------------------------------------------------------------------------------

    def reply(
        self,
        payload: Any = None,
        *,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> Message:
        """The reply to the message in hand, to be returned from the handler. The keywords are hints for an HTTP caller."""
        if status is None and headers is None and media_type is None:
            return new_reply(payload, self.name)
        hints = {"status": status, "headers": headers, "media_type": media_type}
        return Message("reply", payload, self.name, meta={key: value for key, value in hints.items() if value is not None})

    def defer(self) -> Any:
        """To be returned from a handler whose reply comes later by `reply_to(message, payload)`."""
        return DEFERRED

    def reply_to(self, message: Message, payload: Any) -> bool:
        """Answer a deferred message. Returns whether its caller still waited."""
        return self._life.reply_to(message, payload)

    async def send(
        self,
        recipient: str,
        payload: Any,
        message_type: str = DEFAULT_TYPE,
        *,
        priority: int = 0,
        ttl: float | None = None,
    ) -> None:
        """Send one way. A higher `priority` is handled first; after `ttl` seconds it is dropped, where it still waits.

        Raises:
            UnknownAgent, MailboxFull, ProcessExited: nothing was sent.
            ReservedType: a type that belongs to the runtime.
        """
        self.router.send(recipient, payload, message_type, self.name, priority, ttl)

    async def ask(
        self, recipient: str, payload: Any, message_type: str = DEFAULT_TYPE, timeout: float = 30.0, *, priority: int = 0
    ) -> Message:
        """Send and wait for the reply, at most `timeout` seconds and never beyond the deadline of the message in hand.

        Raises:
            CallError: as it ended. Uncaught, it is handed on to this process's own caller.
        """
        if recipient == self.name and self.status not in (ProcessStatus.RUNNING, ProcessStatus.WAITING):
            raise SelfAsk(recipient)  # in a hook: nothing is handled meanwhile
        return await self.router.call(recipient, payload, message_type, timeout, self.name, priority)

    async def call(self, name: str, payload: Any, timeout: float = 5.0, message_type: str = DEFAULT_TYPE) -> Any:
        """Ask and return the reply's payload: GenServer's verb. `message_type`: the operation, where there are several."""
        return (await self.ask(name, payload, message_type, timeout)).payload

    async def cast(self, name: str, payload: Any) -> None:
        """Send to a GenServer's `handle_cast`."""
        await self.send(name, payload, "cast")

    async def broadcast(self, pattern: str, payload: Any, message_type: str = DEFAULT_TYPE) -> list[str]:
        """Send to everybody whose name matches a glob, except oneself.

        Returns the names that it reached: who has a full mailbox, or has ended, is left out.
        """
        names = [box.name for box in self.router.registry.lookup_all(pattern) if box.name != self.name]
        return self.router.send_each(names, payload, message_type, self.name)

    async def send_capable(self, capability: str, payload: Any, message_type: str = DEFAULT_TYPE) -> list[str]:
        """Send to everybody who has the capability, except oneself. Returns the names that it reached, as `broadcast`."""
        names = [name for name in self.router.registry.find_by_capability(capability) if name != self.name]
        return self.router.send_each(names, payload, message_type, self.name)

    def resource_updated(self, uri: str) -> None:
        """Tell who subscribed to it that what this agent lets read at an address (`@resource`) is another now."""
        self.router.emit(EventKind.RESOURCE_UPDATED, self.name, uri=uri)

    async def checkpoint(self) -> None:
        """Commit `self.state` now, before the handling ends."""
        if self._incarnation is not None:
            await self._incarnation.checkpoint()

    async def sleep(self, seconds: float) -> None:
        """Wait on the runtime's clock."""
        await sleep(self.router.clock, seconds)

    def start_task(self, coroutine: Coroutine[Any, Any, None], name: str = "task") -> None:
        """Run something beside the mailbox for as long as this incarnation lives. If it raises, the process crashes."""
        if self._incarnation is None:
            coroutine.close()
            raise RuntimeNotStarted
        self._incarnation.start_task(coroutine, name)

    async def run_blocking(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a blocking function in a thread, so that it stalls nobody. One whose caller is cancelled runs on unheeded."""
        return await self.router.run_blocking(function, *args, **kwargs)

    async def run_to_end(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a handler that is a plain function: where it is cancelled, this waits until the thread has ended."""
        return await self.router.run_to_end(function, *args, **kwargs)

    # --- others -------------------------------------------------------------------------------------------------------

    def monitor(self, name: str) -> str:
        """Be told once, by a message of type `DOWN`, when the present incarnation of a process ends, in whatever way.

        The message's payload has `ref` (what this returns), `name` and `reason`; the reason is `noproc` where there is none.
        A restart of this process ends its monitors. Raises `UnknownAgent`.
        """
        return self.router.monitors.monitor(self._life, name)

    def demonitor(self, ref: str) -> None:
        """Do not be told. A message that has been sent already comes all the same."""
        self.router.monitors.demonitor(self._life, ref)

    def link(self, name: str) -> None:
        """Share a process's fate: when one of the two ends in any way but of itself, the other crashes too.

        One that was shut down shuts the other down. With `trap_exits` it gets a message of type `EXIT` (`name`, `reason`)
        instead. Raises `UnknownAgent`.
        """
        self.router.monitors.link(self._life, name)

    def unlink(self, name: str) -> None:
        """Undo `link`, for both."""
        self.router.monitors.unlink(self._life, name)

    async def suspend(self, reason: str = "") -> None:
        """Take no further message until somebody resumes this process: asks are refused, sends wait. Survives restarts."""
        self.router.suspend(self._life.mailbox.name, reason)
        self.state_touched = self.concurrency == 1 or self.state_touched  # the reply waits until that is stored

    async def resume(self, approver: str = "") -> None:
        """Take messages again: called from a task or a timer of its own, since no handler runs. `approver`: who allows it."""
        self.router.resume(self._life.mailbox.name, approver or self.name)
        self.state_touched = self.concurrency == 1 or self.state_touched  # see `suspend`

    async def spawn(self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any] | None = None) -> str:
        """Start a process below the nearest `DynamicSupervisor`, upward from here, so that it belongs to this subtree.

        Returns its name. Its end for good comes to `on_child_terminated`. Raises as `DynamicSupervisor.spawn`.
        """
        return await self._nearest().spawn(agent_class, name, config, spawner=self.name)

    async def despawn(self, name: str) -> None:
        """End a process that was spawned here, now, without letting it finish. Raises `LifecycleError`."""
        await self._nearest().despawn(name)

    async def stop(self, name: str, drain: str = "current", timeout: float = 30.0) -> None:
        """End a process that was spawned here, after the message in hand (`current`) or all that wait (`all`).

        After `timeout` seconds it is cancelled. Raises `LifecycleError`; `SelfAsk` where it is oneself: who would await that?
        """
        if name == self.name:
            raise SelfAsk(name)
        await self._nearest().stop(name, drain, timeout)

    def _nearest(self) -> DynamicSupervisor:
        return self._life.nearest_dynamic()

    @property
    def _life(self) -> Incarnation:
        if self._incarnation is None:
            raise RuntimeNotStarted
        if self._incarnation.outlived:
            raise LifecycleError(f"{self.id} has ended.")
        return self._incarnation


def _off_the_loop(handler: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A plain function as a handler: it may block, so it runs in a thread."""

    @wraps(handler)
    async def handled(self: AgentProcess, *args: Any) -> Any:
        result = await self.run_to_end(handler, self, *args)
        return await result if isawaitable(result) else result

    return handled


class _ChildTerminated:
    """The notice that a spawned child has ended, as an operation of every process. See `Invocable`."""

    name = CHILD_TERMINATED
    idempotent = None
    none_is_a_reply = True

    def prepare(self) -> None:
        """Nothing to prepare."""

    async def invoke(self, process: AgentProcess, message: Message) -> None:
        """Call the hook."""
        await process.on_child_terminated(message.payload["name"], message.payload["reason"])


AgentProcess.invocables = {CHILD_TERMINATED: _ChildTerminated()}
