"""Current: what is handled in this task. What is sent meanwhile inherits its deadline, origin, trace and journal.

The one module of the kernel whose names hold something, and they hold it per task: runtimes never meet in them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import ToolExecution

current: ContextVar[Delivery | None] = ContextVar("portico_current_delivery", default=None)
"""The delivery in hand; None outside any handling."""

executing: ContextVar[ToolExecution | None] = ContextVar("portico_executing", default=None)
"""The call of a tool that this task makes, where somebody watches it; None outside any."""


def trace_of(in_hand: Delivery) -> str | None:
    """The `traceparent` that is handed on from here: that of the tool being called, else that of the handling."""
    tool = executing.get()
    if tool is None or tool.traceparent is None or tool.delivery is not in_hand:
        return in_hand.traceparent
    return tool.traceparent
