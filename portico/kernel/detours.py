"""Detours: how a handler leaves its message without an end: the run goes on later, or elsewhere.

Raised by the verbs of `Context` and caught by the receiver. Not exceptions that a handler could catch by `except Exception`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Detour(BaseException):
    """The root."""


class Parked(Detour):
    """The message waits for something, held by nobody. Then it is handled again, from the beginning."""

    def __init__(self, waiting: Mapping[str, Any], check: Callable[[Any], object] | None = None) -> None:
        super().__init__("waits")
        self.waiting = waiting
        """What for, as the run keeps it."""
        self.check = check
        """Refuses, while the program lives that waits, what comes and is not that, by raising a `Refused`."""


@dataclass(slots=True, eq=False)
class Transferred(Detour):
    """Another agent goes on."""

    agent: str
    """Who."""
    operation: str
    """What it is asked: the message's type."""
    payload: Any
    """The request."""
    reason: str = ""
    """Why, for people."""


def detour_of(error: BaseException) -> Detour | None:
    """The detour that was raised, also where task groups stand between; None where anything else was."""
    if isinstance(error, Detour):
        return error
    if isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for inner in inside if (found := detour_of(inner)) is not None), None)
    return None
