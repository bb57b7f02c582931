"""Callback: who is to be told of a run's end, and how far that has come. Plain data, stored with the run.

It is made when the run is accepted. `webhooks/` sends it once the run has ended; this room knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class CallbackStatus(StrEnum):
    """Where a callback is."""

    PENDING = "pending"
    """It is sent when its run has ended, or again when its time has come."""
    DELIVERED = "delivered"
    """Its receiver has taken it."""
    FAILED = "failed"
    """It was given up. Somebody may have it sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One callback. Times are seconds since the epoch."""

    url: str
    """Where it goes."""
    status: CallbackStatus = CallbackStatus.PENDING
    """Where it is."""
    attempts: int = 0
    """How often it was sent, since it was last asked for."""
    next_at: float | None = None
    """When it is due; while its run has not ended, when that was accepted. None where nothing more is sent."""
    last_status: int | None = None
    """The HTTP status of the last answer; None where there was none."""
    last_error: str | None = None
    """Why the last attempt has failed, as a sentence; None where none has."""
    delivered_at: float | None = None
    """When its receiver has taken it."""


def restored(values: Mapping[str, Any] | None) -> Callback | None:
    """The callback of plain data, as `dataclasses.asdict` makes it. Raises `ValueError` where it is none."""
    if values is None:
        return None
    try:
        plain = dict(values)
        return Callback(status=CallbackStatus(plain.pop("status")), **plain)
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from error
