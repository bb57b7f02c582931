"""Refusals: how many requests were refused in one minute, and to whom. Of a flood, the most are counted rather than recorded.

Each payer (a principal, or the network of an address) has a count of its own: nobody's flood hides what others are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from portico.network import network_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.clock import Clock, Timer
    from portico.runs.auditor import Doer

EACH: Final = 60
"""How many refused requests of a payer have entries of their own in one minute."""
PAYERS: Final = 1000
"""How many payers have a count of their own in one minute; all others share one."""
MINUTE: Final = 60.0
"""Seconds in which these are counted."""


@dataclass(frozen=True, slots=True)
class Payer:
    """Who is refused. Neither: whoever else there was."""

    principal: str | None = None
    address: str | None = None


OTHERS: Final = Payer()
"""All who have no count of their own."""


class Refusals:
    """See the module. `tell`: called with a payer, and how many of its requests have no entry, as soon as the minute is over."""

    def __init__(self, clock: Clock, tell: Callable[[Payer, int], object]) -> None:
        self._clock = clock
        self._tell = tell
        self._counts: dict[Payer, int] = {}
        self._until = -math.inf
        self._timer: Timer | None = None

    def take(self, doer: Doer) -> bool:
        """One more. Returns whether it has an entry of its own. Called on the event loop."""
        now = self._clock.now()
        if now >= self._until:
            self.end()
            self._until = now + MINUTE
        payer = _payer(doer)
        if payer not in self._counts and len(self._counts) >= PAYERS:
            payer = OTHERS
        count = self._counts[payer] = self._counts.get(payer, 0) + 1
        if count > EACH and self._timer is None:
            self._timer = self._clock.call_at(self._until, self.end)
        return count <= EACH

    def end(self) -> None:
        """The minute is over: say how many have no entry of their own."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counts, self._counts, self._until = self._counts, {}, -math.inf
        for payer, count in counts.items():
            if count > EACH:
                self._tell(payer, count - EACH)


def _payer(doer: Doer) -> Payer:
    if doer.principal is not None:
        return Payer(principal=doer.principal)
    return Payer(address=network_of(doer.address)) if doer.address is not None else OTHERS
