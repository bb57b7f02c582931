"""Retries: whether a call that failed is made again, and after how long. One table, in `docs/client.md` in words.

It knows errors and time, and no connection. The rule: what was surely not handled is sent again; what may have been, only where to
send it twice has the effect of sending it once. An outcome is an outcome, and never retried.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from portico.client.errors import AgentError, ConnectionFailed, PorticoAPIError

if TYPE_CHECKING:
    from portico.client.errors import ClientError

REFUSED: Final = frozenset(
    {
        "agent-draining",
        "auth-unavailable",
        "deadline-unreachable",
        "draining",
        "mailbox-full",
        "overloaded",
        "runtime-not-started",
        "too-many-keys",
        "too-many-watchers",
    },
)
"""The slugs of 503 that say: no handler has seen it, and later one may."""
UNSURE: Final = frozenset({"interrupted", "runtime-stopped", "store-unavailable"})
"""The slugs of 503 whose call a handler may have seen, and that has no outcome yet where it has a key."""
NEVER_HANDLED: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
"""The statuses that say, whoever answers: it was not handled, and later it may be (RFC 9110 §15.5.9, RFC 8470, RFC 6585)."""
IN_BETWEEN: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""What a proxy says whose gateway is not there, or went away with the request."""
FIRST: Final = 0.25
"""Seconds: the first pause is at most so long, each further one twice as long."""
LONGEST: Final = 8.0
"""Seconds: no pause is longer, unless the gateway asks for it."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try again."""

    most: int = 2

    def pause(self, error: ClientError, attempt: int, *, idempotent: bool) -> float | None:
        """Seconds until the next attempt; None where there is none. `attempt`: 0 for the first."""
        if attempt >= self.most or not worth_it(error, idempotent=idempotent):
            return None
        asked = error.retry_after if isinstance(error, PorticoAPIError) else None
        return backoff(attempt) + (asked or 0.0)


def worth_it(error: ClientError, *, idempotent: bool) -> bool:
    """Whether the same call may go well later, and does no harm."""
    if isinstance(error, ConnectionFailed):
        return idempotent or not error.sent
    if not isinstance(error, PorticoAPIError) or isinstance(error, AgentError) or error.replayed:
        return False
    if error.status in NEVER_HANDLED or error.slug in REFUSED:
        return True
    return idempotent and (error.slug in UNSURE or (not error.slug and error.status in IN_BETWEEN))


def backoff(attempt: int) -> float:
    """Exponential with full jitter: many clients that were refused together do not come back together. Seconds."""
    return random.uniform(0.0, min(LONGEST, FIRST * 2.0 ** min(attempt, 10)))  # noqa: S311  # nothing secret
