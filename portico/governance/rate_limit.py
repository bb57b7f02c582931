"""RateLimit: so many calls per window and payer, as token buckets: a full bucket at first, refilled evenly.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm), so a call costs a dictionary
look-up, whoever else calls. Several limits at once: a call takes from all of them or from none.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from portico.errors import ConfigurationError, QuotaExceeded
from portico.network import network_of
from portico.runs.quota import Allowance, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
"""Seconds by the word of a limit."""
SWEEP_AT: Final = 10_000
"""How many payers a limit remembers before it looks for those whose bucket is full again."""
HAIR: Final = 1e-6
"""Seconds: of two times that are equal, one may come out of the arithmetic a little later."""
_LIMIT: Final = re.compile(
    r"(?P<calls>[1-9][0-9]{0,8})\s*(?:/|\s+per\s+)\s*(?P<number>[1-9][0-9]{0,4})?\s*(?P<unit>second|minute|hour|day)s?"
)


class Bucket:
    """One limit for all payers."""

    __slots__ = ("_full_at", "_sweep_at", "interval", "policy", "window")

    def __init__(self, text: str) -> None:
        """Raises `ConfigurationError` for a text that is no limit."""
        match = _LIMIT.fullmatch(text.strip().lower())
        if match is None:
            raise ConfigurationError(
                f"{text!r} is no rate limit: write how many calls in which window, such as '100/minute' or '500/10 minutes'."
            )
        calls = int(match["calls"])
        self.window = int(match["number"] or 1) * UNITS[match["unit"]]
        self.interval = self.window / calls
        self.policy = Policy(text.strip(), calls, self.window)
        self._full_at: dict[str, float] = {}
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_at)

    def lack(self, payer: str, now: float) -> float:
        """Seconds until the payer may call; 0.0 where it may now."""
        lack = self._full_at.get(payer, now) + self.interval - now - self.window
        return lack if lack > HAIR else 0.0

    def take(self, payer: str, now: float) -> Allowance:
        """One call less; returns what is left. Ask `lack` before."""
        full_at = self._full_at.get(payer, now)
        full_at = (max(now, full_at)) + self.interval
        self._full_at[payer] = full_at
        if len(self._full_at) > self._sweep_at:
            self._sweep(now)
        return Allowance(self.policy, int((self.window - full_at + now + HAIR) / self.interval), full_at - now)

    def left(self, payer: str, now: float) -> Allowance:
        """What the payer has left."""
        until_full = max(0.0, self._full_at.get(payer, now) - now)
        return Allowance(self.policy, int((self.window - until_full + HAIR) / self.interval), until_full)

    def _sweep(self, now: float) -> None:
        """Forget full buckets: a payer that is not known has one. Strangers choose addresses, so this must not grow for ever."""
        self._full_at = {payer: full_at for payer, full_at in self._full_at.items() if full_at > now}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._full_at))


class RateLimit:
    """A quota: implements `runs.quota.Quota`.

    Args:
        limits: texts such as `100/minute` or `10 per second`.
        now: a clock in seconds.

    Raises:
        ConfigurationError: a text that is no limit.
    """

    def __init__(self, limits: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self._buckets = [Bucket(text) for text in limits]
        self._now = now

    def take(self, payer: str) -> list[Allowance]:
        """One call of this payer, from every bucket or from none. Returns what is left. Raises `QuotaExceeded`."""
        now = self._now()
        if ":" in payer:
            payer = network_of(payer)
        buckets = self._buckets
        for bucket in buckets:
            if (lack := bucket.lack(payer, now)) > 0.0:
                left = [one.left(payer, now) for one in buckets]
                raise QuotaExceeded(bucket.policy.name, lack, left)
        return [bucket.take(payer, now) for bucket in buckets]
