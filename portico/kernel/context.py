"""MessageContext: the handle that a handler gets as `ctx: Context`, made from the delivery in hand.

It speaks to the journal that the delivery carries; `runs` implements that journal. Outside any run, events go nowhere, and a step
is only called.
"""

from __future__ import annotations

import asyncio
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from portico.errors import LifecycleError
from portico.kernel.clock import SystemClock, sleep
from portico.kernel.detours import Transferred
from portico.kernel.messages import DEFAULT_TYPE
from portico.kernel.protocols import REQUIRED
from portico.kernel.questions import Question
from portico.kernel.steps import StepCall, perform

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.kernel.delivery import Delivery
    from portico.kernel.process import AgentProcess
    from portico.kernel.protocols import Journal, ToolSet
    from portico.kernel.questions import Messages


LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""The severities of RFC 5424, the least first."""


class MessageContext:
    """See `protocols.Context`."""

    __slots__ = ("_clock", "_delivery", "_loop", "_process")

    def __init__(self, process: AgentProcess | None = None, delivery: Delivery | None = None) -> None:
        """Its plain methods may be called from a thread, such as that of a blocking handler, and it may be made there.

        Without a process, it stands for a context where there is none, such as that of a tool called by hand.
        """
        self._loop = _loop_of(delivery)
        self._process = process
        self._clock = process.router.clock if process is not None else SystemClock()
        self._delivery = delivery

    @property
    def run_id(self) -> str:
        """See `Context.run_id`."""
        journal = self._delivery.journal if self._delivery else None
        return journal.run_id if journal else ""

    @property
    def principal(self) -> str | None:
        """See `Context.principal`."""
        origin = self._delivery.message.origin if self._delivery else None
        return origin.principal if origin else None

    @property
    def attempt(self) -> int:
        """See `Context.attempt`."""
        return self._delivery.message.attempt if self._delivery else 0

    @property
    def cancelled(self) -> bool:
        """See `Context.cancelled`."""
        delivery = self._delivery
        return delivery is not None and (delivery.finished or (delivery.journal is not None and delivery.journal.cancelled))

    def remaining(self) -> float | None:
        """See `Context.remaining`."""
        message = self._delivery.message if self._delivery else None
        deadline = message.deadline if message is not None and message.ttl is None else None
        return None if deadline is None else max(0.0, deadline - self._clock.now())

    def emit(self, event_type: str, data: Any = None) -> None:
        """See `Context.emit`."""
        journal = self._delivery.journal if self._delivery is not None else None
        if journal is None:
            return
        if _running_loop() is not None:
            journal.append(event_type, data)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(journal.append, event_type, data)

    def delta(self, text: str) -> None:
        """See `Context.delta`."""
        self.emit("delta", {"text": text})

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """See `Context.progress`."""
        self.emit("progress", {"done": done, "total": total, "note": note})

    def log(self, level: str, data: Any, logger: str | None = None) -> None:
        """See `Context.log`."""
        if level not in LOG_LEVELS:
            raise ValueError(f"There is no log level {level!r}. There are: {', '.join(LOG_LEVELS)}.")
        self.emit("log", {"level": level, "data": data, "logger": logger})

    def metric(self, name: str, value: float, *, unit: str = "", **tags: str) -> None:
        """See `Context.metric`."""
        if not isfinite(value):
            raise ValueError(f"The metric {name!r} is {value!r}: it needs to be a number.")
        self.emit("metric", {"name": name, "value": value, "unit": unit, "tags": tags})

    # --- the request --------------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> Mapping[str, Any]:
        """See `Context.metadata`."""
        journal = self._journal
        return journal.metadata if journal is not None else {}

    @property
    def input_messages(self) -> list[Any]:
        """See `Context.input_messages`."""
        payload = self._delivery.message.payload if self._delivery is not None else None
        if not isinstance(payload, dict):
            return [{"role": "user", "content": payload}] if isinstance(payload, str) else []
        members = cast("dict[str, Any]", payload)
        messages = members.get("messages")
        if isinstance(messages, list):
            return list(cast("list[Any]", messages))
        text = members.get("message")
        return [{"role": "user", "content": text}] if isinstance(text, str) else []

    @property
    def tools(self) -> ToolSet:
        """See `Context.tools`."""
        return self._bound.tools

    # --- what outlives the handling -----------------------------------------------------------------------------------

    @property
    def _bound(self) -> AgentProcess:
        if self._process is None:
            raise LifecycleError("This context belongs to no process.")
        return self._process

    @property
    def _journal(self) -> Journal | None:
        return self._delivery.journal if self._delivery is not None else None

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
        """See `Context.step`."""
        journal = self._journal
        if journal is None:
            call = StepCall(name, name, 0)
            return await perform(self._clock, call, function, retries=retries, retry_delay=retry_delay, limit=timeout)
        return await journal.step(name, function, retries=retries, retry_delay=retry_delay, timeout=timeout, checkpoint=checkpoint)

    async def wait_input(self, prompt: str, schema: Any = None, *, timeout: float | None = None, default: Any = REQUIRED) -> Any:
        """See `Context.wait_input`."""
        return await self._ask("wait_input", Question.input(prompt, schema), timeout, default)

    async def wait_inputs(
        self, asked: Mapping[str, Question], *, timeout: float | None = None, default: Any = REQUIRED
    ) -> dict[str, Any]:
        """See `Context.wait_inputs`."""
        return await self._ask("wait_inputs", asked, timeout, default) if asked else {}

    async def visit(self, url: str, prompt: str, *, timeout: float | None = None, default: Any = REQUIRED) -> Any:
        """See `Context.visit`."""
        return await self._ask("visit", Question.visit(url, prompt), timeout, default)

    async def sample(
        self, messages: Messages, *, max_tokens: int = 1000, timeout: float | None = None, default: Any = REQUIRED, **more: Any
    ) -> dict[str, Any]:
        """See `Context.sample`."""
        return await self._ask("sample", Question.sample(messages, max_tokens=max_tokens, **more), timeout, default)

    async def roots(self, *, timeout: float | None = None, default: Any = REQUIRED) -> list[dict[str, Any]]:
        """See `Context.roots`."""
        answer = await self._ask("roots", Question.roots(), timeout, default)
        return cast("dict[str, Any]", answer)["roots"] if isinstance(answer, dict) else answer

    async def _ask(self, verb: str, asked: Mapping[str, Question] | Question, timeout: float | None, default: Any) -> Any:
        journal = self._journal
        if journal is None:
            raise LifecycleError(f"ctx.{verb} was called outside a run: nobody could answer. Come through the gateway.")
        return await journal.wait_inputs(asked, timeout=timeout, default=default)

    def can_ask(self, kind: str) -> bool:
        """See `Context.can_ask`."""
        answerable = self._journal.answerable if self._journal is not None else None
        return answerable is None or kind in answerable

    async def sleep(self, seconds: float) -> None:
        """See `Context.sleep`."""
        journal = self._journal
        await (sleep(self._clock, seconds) if journal is None else journal.sleep(seconds))

    def transfer(self, agent: str, payload: Any, *, operation: str | None = None, reason: str = "") -> NoReturn:
        """See `Context.transfer`."""
        router = self._bound.router
        router.registry.lookup(agent)
        if operation is None:
            names = list(router.runtime.operations_of(agent))
            operation = names[0] if len(names) == 1 else DEFAULT_TYPE
        router.refuse_reserved(operation)
        raise Transferred(agent, operation, payload, reason)

    async def checkpoint(self, state: Any) -> None:
        """See `Context.checkpoint`."""
        journal = self._journal
        if journal is not None:
            await journal.checkpoint(state)

    async def get_state(self) -> Any:
        """See `Context.get_state`."""
        journal = self._journal
        return journal.get_state() if journal is not None else None


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop of this thread; None in a thread of its own."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _loop_of(delivery: Delivery | None) -> asyncio.AbstractEventLoop | None:
    """The loop on which the run's journal is written."""
    loop = _running_loop()
    if loop is None and delivery is not None and delivery.holder is not None:
        return delivery.holder.router.loop
    return loop
