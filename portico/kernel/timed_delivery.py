"""TimedDelivery: a delivery that notes how long it waited and how long it was handled, for a caller who wants to know.

Above: the dispatcher makes one where a call asks for it. All others are plain deliveries, and cost nothing more.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from portico.kernel.delivery import Delivery

if TYPE_CHECKING:
    import asyncio

    from portico.kernel.delivery import Holder
    from portico.kernel.messages import Message
    from portico.kernel.protocols import Journal


class Timing:
    """What was measured of one call, in seconds."""

    __slots__ = ("handled", "queued")

    def __init__(self) -> None:
        self.queued = 0.0
        """From its delivery until somebody took it for the first time."""
        self.handled = 0.0
        """In somebody's hands; the attempts together, where there were several."""


class TimedDelivery(Delivery):
    """See the module. `timing`: where the figures go."""

    __slots__ = ("_holder", "_made", "_since", "timing")

    def __init__(
        self,
        message: Message,
        future: asyncio.Future[Message] | None,
        journal: Journal | None,
        one_way: bool,  # noqa: FBT001  # by position, as `new_delivery` has it
        timing: Timing,
    ) -> None:
        self.timing = timing
        self._holder: Holder | None = None
        self._since: float | None = None
        self._made: float | None = perf_counter()
        super().__init__(message, future, journal, one_way)

    @property
    def holder(self) -> Holder | None:
        """Who has it in hand. What is only being stored is in nobody's hands."""
        return self._holder

    @holder.setter
    def holder(self, holder: Holder | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # read and written as the attribute is
        self._holder = holder
        now = perf_counter()
        if holder is None or holder.final:
            if self._since is not None:
                self.timing.handled += now - self._since
                self._since = None
        elif self._since is None:
            self._since = now
            if self._made is not None:
                self.timing.queued, self._made = now - self._made, None
