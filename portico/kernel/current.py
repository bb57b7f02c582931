"""Current: what is handled in this task. What is sent meanwhile inherits its deadline, origin, trace and journal.

The one module-level name of the kernel that holds something, and it holds it per task: runtimes never meet in it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.kernel.delivery import Delivery

current: ContextVar[Delivery | None] = ContextVar("portico_current_delivery", default=None)
"""The delivery in hand; None outside any handling."""
