"""Retry-After (RFC 9110 §10.2.3), read: a number of seconds, or a date.

Above: whoever calls an HTTP server: model providers, the client. How the gateway writes its own stands in `routes/problems.py`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(value: str | None) -> float | None:
    """The seconds until one may try again, at least 0; None where there is no such header, or nothing to be read in it."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
