"""Exits: how a child's life begins and ends, as its supervisor hears of it. Plain messages for its inbox, never callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.kernel.mailbox import Delivery


class ExitKind(StrEnum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """It wanted to."""
    SHUTDOWN = "shutdown"
    """Its supervisor asked it to stop, or cancelled it."""
    START_FAILED = "start_failed"
    """`on_start` raised."""
    CRASHED = "crashed"
    """A handler or a task of its own raised, or it was deaf to its cancellation."""


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of an incarnation, as its supervisor hears of it."""

    kind: ExitKind
    """How."""
    error: BaseException | None = None
    """What was raised."""
    delivery: Delivery | None = None
    """What was in hand and has no end yet."""
    charged: bool = False
    """Whether that message caused the end, and so pays an attempt."""

    @property
    def reason(self) -> str:
        """One line for reports."""
        if self.error is None:
            return self.kind.value
        return described(self.error)


def described(error: BaseException) -> str:
    """An exception in one line. What it says of itself is user code, and may fail too; then its type has to do."""
    try:
        text = next(iter(str(error).splitlines()), "")
    except Exception:  # noqa: BLE001  # the border of user code: a `__str__` that raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True, slots=True)
class Started:
    """A child takes messages now."""

    child: object


@dataclass(frozen=True, slots=True)
class Ended:
    """A child has ended."""

    child: object
    exit: Exit
