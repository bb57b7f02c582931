"""CallInHand: one call to an external server while it is under way: on whose behalf it is, and how often the server asked back.

What a server asks during a call belongs to the run whose call that is. Which one must be certain: by the stream that the request
came on (the HTTP transports run a stream in the context of whoever sent the call), by the round of the call itself (2026-07-28), or
because no other call can be meant. Where it is not certain, the request belongs to nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from portico.kernel.current import current, executing
from portico.kernel.tap import Tap
from portico.llm.in_use import model_in_use

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import ModelProvider, ToolExecution


class CallInHand:
    """One call under way."""

    __slots__ = ("_execution", "_paused", "asked", "delivery", "limit", "model", "sampled", "tool")

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.delivery: Delivery | None = current.get()
        """What the agent that calls has in hand; None outside any handling."""
        self.model: tuple[ModelProvider, str] | None = _model_of(self.delivery)
        """The model that speaks there."""
        self.limit: asyncio.Timeout | None = None
        """What ends the call when it takes too long."""
        self.asked = 0
        """How often the server asked people."""
        self.sampled = 0
        """How often it asked the model."""
        self._execution: ToolExecution | None = executing.get()
        self._paused = 0

    @contextmanager
    def served(self) -> Generator[None]:
        """What is done inside is part of the call: over pipes, what a server asks arrives in a task of the connection's own."""
        delivery, execution = current.set(self.delivery), executing.set(self._execution)
        try:
            with self.paused():
                yield
        finally:
            executing.reset(execution)
            current.reset(delivery)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Meanwhile the server waits for us, so that its time stands still."""
        limit, loop = self.limit, asyncio.get_running_loop()
        self._paused += 1
        left = None
        if self._paused == 1 and limit is not None and (when := limit.when()) is not None:
            left = when - loop.time()
            limit.reschedule(None)
        try:
            yield
        finally:
            self._paused -= 1
            if left is not None and limit is not None and not limit.expired():
                limit.reschedule(loop.time() + left)


class CallsInHand:
    """All calls to one server that are under way."""

    def __init__(self) -> None:
        self._open: dict[CallInHand, None] = {}
        self._abandoned = False

    @contextmanager
    def opened(self, tool: str) -> Generator[CallInHand]:
        """A call, from before it is sent until its end."""
        call = CallInHand(tool)
        self._open[call] = None
        token = call_in_hand.set(call)
        try:
            yield call
        except (asyncio.CancelledError, TimeoutError):
            # The server may go on with it, and ask: then nobody can tell that from what the next call makes it ask.
            self.abandon()
            raise
        finally:
            call_in_hand.reset(token)
            del self._open[call]

    def abandon(self) -> None:
        """A call that was sent has ended here without an answer, or is sent again."""
        self._abandoned = True

    def renewed(self) -> None:
        """The connection is a new one: whatever was abandoned on the old one asks no more."""
        self._abandoned = False

    def whose(self) -> CallInHand | None:
        """To which call a request of the server belongs that arrives in this task; None where that is not certain."""
        call = call_in_hand.get()
        if call is not None:
            return call if call in self._open else None
        # It came on a stream of all calls: over stdio there is no other, and over HTTP many servers use it without need.
        if len(self._open) == 1 and not self._abandoned:
            return next(iter(self._open))
        return None


call_in_hand: ContextVar[CallInHand | None] = ContextVar("portico_mcp_call", default=None)
"""The call that is made in this task, or on whose stream something has come."""


def _model_of(delivery: Delivery | None) -> tuple[ModelProvider, str] | None:
    """The model of the conversation in hand, else the default one of the runtime that the agent lives in."""
    found = model_in_use.get()
    if found is not None or delivery is None or delivery.holder is None:
        return found
    router = delivery.holder.router
    services = router.services
    if services.llm is None:
        return None
    tap = Tap.of(router, delivery.message.recipient)
    return services.llm if tap is None else tap.model(services.llm), ""
