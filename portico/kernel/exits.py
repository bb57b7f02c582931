"""Exits: how a child's life begins and ends, as its supervisor hears of it. Plain messages for its inbox, never callbacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico.kernel.delivery import Delivery


class ExitKind(StrEnum):
    """How an incarnation ended."""

    NORMAL = "normal"
    """It wanted to."""
    SHUTDOWN = "shutdown"
    """Its supervisor asked it to stop or cancelled it, or a process that it is linked to was shut down."""
    START_FAILED = "start_failed"
    """`on_start` raised."""
    CRASHED = "crashed"
    """A handler or a task of its own raised, it was deaf to its cancellation, or a process that it is linked to crashed."""


class IntensityExceededError(Exception):
    """More restarts within the window than the supervisor allows. Its text quotes no other exception: callers may read it."""


class LinkedExitError(Exception):
    """A process that this one is linked to has ended. `outside`: what ended it came from outside, and counts to no window."""

    def __init__(self, name: str, known: str, exit_: Exit) -> None:
        """`known`: the name of the agent that it is part of: its own may be a caller's key."""
        super().__init__(f"{name!r}, to which it is linked, has ended: {exit_.reason}")
        self.told = f"{known!r}, to which it is linked, has ended: {exit_.told}"
        self.outside = exit_.outside


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message that was in hand at the end of an incarnation, and that has no end yet."""

    delivery: Delivery
    """The message and who waits for it."""
    error: BaseException | None = None
    """What it raised, where it caused the end: then it pays an attempt."""

    @property
    def charged(self) -> bool:
        """Whether it caused the end, or a part in it."""
        return self.error is not None


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of an incarnation, as its supervisor hears of it."""

    kind: ExitKind
    """How."""
    error: BaseException | None = None
    """What was raised."""
    unfinished: tuple[Unfinished, ...] = ()
    """What was in hand: one message, or several where `concurrency` is above one."""
    from_outside: bool = False
    """Whether something from outside is to blame that is in no message here: it made a process end of itself, or is not there."""

    @property
    def reason(self) -> str:
        """One line for reports."""
        if self.error is None:
            return self.kind.value
        return described(self.error)

    @property
    def told(self) -> str:
        """The same for callers."""
        return self.kind.value if self.error is None else told_of(self.error)

    @property
    def wanted(self) -> bool:
        """Whether a transient child stays away: it ended of itself, or was shut down."""
        return self.kind in (ExitKind.NORMAL, ExitKind.SHUTDOWN)

    @property
    def outside(self) -> bool:
        """Whether only messages with an outside origin are to blame: then it counts to no window."""
        if self.from_outside or (isinstance(self.error, LinkedExitError) and self.error.outside):
            return True
        charged = [left for left in self.unfinished if left.charged]
        return bool(charged) and all(left.delivery.message.origin is not None for left in charged)

    @property
    def counts(self) -> bool:
        """Whether its supervisor counts it: what comes from outside never, nor a shutdown over a link; one message counts once."""
        charged = [left.delivery.message for left in self.unfinished if left.charged]
        if charged:
            return any(message.origin is None and message.attempt == 0 for message in charged)
        return not self.outside and self.kind is not ExitKind.SHUTDOWN


class AgentExitError(Exception):
    """User code raised `SystemExit`, or another exception that is none of `Exception`: it ends its process, not the program."""


class StrayCancellationError(Exception):
    """User code raised `asyncio.CancelledError` though nobody had cancelled it: it awaited something that was cancelled."""

    def __init__(self) -> None:
        super().__init__("nobody cancelled it, but something that it awaited was cancelled")


def crash_of(error: BaseException, task: asyncio.Task[Any] | None) -> Exception:
    """What user code raised in that task, as the crash that it is.

    Raises:
        asyncio.CancelledError, KeyboardInterrupt, GeneratorExit: it was none: somebody cancels this task, or ends the program.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
        return StrayCancellationError()
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit):
        raise error
    if isinstance(error, SystemExit):
        return AgentExitError(f"it called sys.exit({error.code!r})")
    return AgentExitError(described(error))


def told_of(error: BaseException) -> str:
    """What callers may know of an exception: not what it says of itself, for that may quote what another caller has sent."""
    if isinstance(error, LinkedExitError):
        return error.told
    return described(error) if isinstance(error, IntensityExceededError) else type(error).__name__


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
