"""Envelope: what goes along with a call to an external server, and what comes back before its result.

There go the trace of the message in hand and, where that belongs to a run, the wish for progress; progress comes back as events of
that run. The caller's deadline and its cancellation need no envelope: both cancel the caller's task, and so the call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, cast

from portico.kernel.current import current, executing, trace_of
from portico.kernel.protocols import Exchange

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from mcp.shared.dispatcher import ProgressFnT

    from portico.kernel.protocols import Journal

LONGEST: Final = 2000
"""Characters of one log message, and of one note of progress."""
LEVELS: Final[Mapping[str, int]] = {
    "debug": 10,
    "info": 20,
    "notice": 20,
    "warning": 30,
    "error": 40,
    "critical": 50,
    "alert": 50,
    "emergency": 50,
}
"""The levels of the protocol (those of syslog) as Python's."""


class Envelope:
    """One call's. `closed` once the call has its result: progress that comes later belongs to nobody."""

    __slots__ = ("_journal", "_traceparent", "_tracestate", "closed", "exchange")

    def __init__(self) -> None:
        in_hand, watched = current.get(), executing.get()
        self.exchange = Exchange()
        """What is told of the call to whoever watches it."""
        self._tracestate: str | None = None
        if watched is not None:
            watched.exchange = self.exchange
            self._tracestate = watched.tracestate
        self._journal: Journal | None = None if in_hand is None else in_hand.journal
        self._traceparent = None if in_hand is None else trace_of(in_hand)
        self.closed = False

    @property
    def meta(self) -> dict[str, Any]:
        """For `_meta`; the SDK adds its own token of progress."""
        if self._traceparent is None:
            return {}
        return {"traceparent": self._traceparent, **({"tracestate": self._tracestate} if self._tracestate else {})}

    @property
    def progress(self) -> ProgressFnT | None:
        """Where progress goes; None where nobody wants it."""
        return None if self._journal is None else self._progress

    async def _progress(self, progress: float, total: float | None, message: str | None) -> None:
        self.report({"progress": progress, "total": total, "message": message})

    def report(self, said: Any) -> None:
        """The parameters of a progress notification become a `progress` event of the run. What is no number is passed over."""
        if self._journal is None or self.closed or not isinstance(said, dict):
            return
        told = cast("dict[str, Any]", said)
        done, total, note = told.get("progress"), told.get("total"), told.get("message")
        if _is_number(done):
            data = {
                "done": done,
                "total": total if _is_number(total) else None,
                "note": note[:LONGEST] if isinstance(note, str) else "",
            }
            self._journal.append("progress", data)


def log_message(logger: logging.Logger, level: str, who: str | None, data: Any) -> None:
    """A log message of a server, in the log under the server's name. A stranger's text: cut, one line."""
    text = data if isinstance(data, str) else repr(data)
    line = " ".join(f"{who}: {text}".splitlines() if who else text.splitlines())
    logger.log(LEVELS.get(level, 20), "%s", line[:LONGEST])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
