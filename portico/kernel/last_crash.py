"""LastCrash: how a process crashed the last time, as text: so no frame, and nothing that a frame held, is kept alive by it.

Above: supervision notes it in the mailbox, which outlives the incarnation; the tree shows it. It has no payloads: a traceback has
the lines of the program, and what the exception says of itself.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from portico.kernel.exits import described

if TYPE_CHECKING:
    from portico.kernel.exits import Exit

LONGEST_MESSAGE: Final = 2048
"""Characters of what an exception says of itself."""
LONGEST_TRACEBACK: Final = 16 * 1024
"""Characters of a traceback: of a longer one the end is kept, where the error is."""
MOST_FRAMES: Final = 50
"""Frames of each exception, the innermost."""


@dataclass(frozen=True, slots=True)
class LastCrash:
    """One crash."""

    at: float
    """When: seconds since the epoch."""
    type: str
    """The class of the exception."""
    message: str
    """What it says of itself, cut."""
    traceback: str
    """Where it came from, cut."""
    incarnation: int
    """Which life of the process it ended, or kept from starting."""
    attempt: int | None
    """The how-manieth handling of the message it was; None where no message was to blame."""


def crash_record(error: BaseException, at: float, incarnation: int, exit_: Exit | None = None) -> LastCrash:
    """A crash as it is kept."""
    attempts = [left.delivery.message.attempt + 1 for left in exit_.unfinished if left.charged] if exit_ is not None else []
    kind = type(error).__name__
    return LastCrash(
        at,
        kind,
        described(error).removeprefix(kind).removeprefix(": ")[:LONGEST_MESSAGE],
        _traceback_of(error),
        incarnation,
        attempts[0] if attempts else None,
    )


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error, limit=-MOST_FRAMES))
    except Exception:  # noqa: BLE001  # the border of user code: an exception may have odd attributes
        text = described(error)
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[1 - LONGEST_TRACEBACK :]
