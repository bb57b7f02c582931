"""Retry-After (RFC 9110 §10.2.3), read: a number of seconds, or a date.

Above: whoever calls an HTTP server: model providers, the client, webhooks. How the gateway writes its own stands in
`routes/problems.py`.
"""

from __future__ import annotations

import math
import time
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """The seconds until one may try again, at least 0; None where there is no such header, or nothing to be read in it.

    `now`: the time, in seconds since the epoch; that of the system unless given.
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            then = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
        seconds = then - (time.time() if now is None else now)
    return max(0.0, seconds) if math.isfinite(seconds) else None
