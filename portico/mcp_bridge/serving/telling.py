"""Teller: what a client is told of a run while it goes on: progress, where the request has a token, and log messages it wants.

Above: `following.py`. Below: the session of the request: everything goes on the stream of its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard, cast

from mcp.types import LoggingMessageNotification, LoggingMessageNotificationParams

from portico.mcp_bridge.serving.log_levels import wanted_levels
from portico.runs.event import EventName
from portico.runs.run import plain

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from portico.runs.event import Event


class Teller:
    """For one request."""

    def __init__(self, context: ServerRequestContext[Any]) -> None:
        self._context = context
        self._progress = bool(context.meta and "progress_token" in context.meta)
        self._levels = wanted_levels(context)
        self._reported: float | None = None

    @property
    def listens(self) -> bool:
        """Whether the client wants to be told of anything."""
        return self._progress or bool(self._levels)

    async def tell(self, event: Event) -> None:
        """Tell of an event, if it is one for the client."""
        if event.type == EventName.PROGRESS and self._progress:
            done = _progress(event.data)
            if done is not None and (
                self._reported is None or done[0] > self._reported
            ):  # it must grow, also after a second attempt
                self._reported = done[0]
                await self._context.session.report_progress(*done)
        elif event.type == EventName.LOG and self._levels:
            message = _message(event.data)
            if message is not None and message.level in self._levels:
                await self._context.session.send_notification(LoggingMessageNotification(params=message), self._context.request_id)


def _progress(data: Any) -> tuple[float, float | None, str | None] | None:
    """How far the work is, as the protocol has it; None for an event of that name that tells no number."""
    if not isinstance(data, dict):
        return None
    said = cast("dict[str, Any]", data)
    done, total, note = said.get("done"), said.get("total"), said.get("note")
    if not _is_number(done):
        return None
    return done, total if _is_number(total) else None, note if isinstance(note, str) and note else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _message(data: Any) -> LoggingMessageNotificationParams | None:
    """The log message of an event; None for an event of that name that is none."""
    if not isinstance(data, dict):
        return None
    said = cast("dict[str, Any]", data)
    try:
        return LoggingMessageNotificationParams(level=said["level"], data=plain(said["data"]), logger=said.get("logger"))
    except (KeyError, ValueError):
        return None
