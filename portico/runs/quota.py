"""Quota: how often one caller may call. The port; what keeps count stands above, in `governance`.

Not to be taken for what the gateway itself can bear: that is the mailboxes' bound, and `max_calls`.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Allowance(NamedTuple):
    """What a caller has left of one quota."""

    policy: str
    """The quota as it was written: `100/minute`."""
    limit: int
    """Calls within the window."""
    window: int
    """Seconds."""
    remaining: int
    """Calls that may come at once."""
    reset: float
    """Seconds until all of them may."""


class Quota(Protocol):
    """Counts calls."""

    def take(self, payer: str) -> tuple[Allowance, ...]:
        """One call of this payer.

        Raises:
            QuotaExceeded: it has none left. Its `allowance` says what there is, and nothing was taken.
        """
        ...
