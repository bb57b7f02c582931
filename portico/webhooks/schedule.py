"""Schedule: when a callback is sent again, as a pure function of what came of it. The times are those of Standard Webhooks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from portico.runs.callback import CallbackStatus

if TYPE_CHECKING:
    from portico.runs.callback import Callback
    from portico.webhooks.sender import Outcome

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DELAYS: Final = (5.0, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Seconds after the first attempt, the second and so on, until the next. After the last there is none."""
JITTER: Final = 0.1
"""By what share of itself a delay may be longer: what has failed together does not come together again."""
LONGEST: Final = 24 * HOUR
"""Seconds that a receiver may put off the next attempt."""


def after(callback: Callback, outcome: Outcome, now: float, chance: float) -> Callback:
    """The callback after an attempt. `now`: seconds since the epoch. `chance`: from 0 to 1, how much of the jitter it gets."""
    attempts = callback.attempts + 1
    done = replace(callback, attempts=attempts, last_status=outcome.status, last_error=outcome.error, next_at=None)
    if outcome.error is None:
        return replace(done, status=CallbackStatus.DELIVERED, delivered_at=now)
    if outcome.gone or attempts > len(DELAYS):
        return replace(done, status=CallbackStatus.FAILED)
    delay = DELAYS[attempts - 1] * (1 + JITTER * chance)
    return replace(done, next_at=now + max(delay, min(outcome.retry_after, LONGEST)))


def afresh(callback: Callback, now: float) -> Callback:
    """The callback as it is sent once more from the beginning, whatever became of it."""
    return replace(callback, status=CallbackStatus.PENDING, attempts=0, next_at=now)
