"""Quota: how often one caller may call. The port; what keeps count stands above, in `governance`.

Not to be taken for what the gateway itself can bear: that is the mailboxes' bound, and `max_calls`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Policy(NamedTuple):
    """One quota, whoever calls."""

    name: str
    """As it was written: `100/minute`."""
    limit: int
    """Calls within the window."""
    window: int
    """Seconds."""


class Allowance(NamedTuple):
    """What a caller has left of one quota."""

    policy: Policy
    """Of which."""
    remaining: int
    """Calls that may come at once."""
    reset: float
    """Seconds until all of them may."""


class Quota(Protocol):
    """Counts calls."""

    def take(self, payer: str) -> Sequence[Allowance]:
        """One call of this payer.

        Raises:
            QuotaExceeded: it has none left. Its `allowance` says what there is, and nothing was taken.
        """
        ...
