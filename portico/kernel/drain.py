"""Drain: a process, or all behind a name, works off what waits and takes nothing new; then it stands suspended.

Above: a `Mailbox` begins one, and refuses what is new with `AgentDraining` while it lasts. Below: the mailboxes that take part.
Whoever reads one of these asks here, when nothing waits there any more or it is suspended, whether it is over. It knows no
supervision: a process that crashes meanwhile comes back, goes on, and asks again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.kernel.lifecycle import ProcessStatus

if TYPE_CHECKING:
    from portico.kernel.mailbox import Mailbox

_SETTLED: Final = (ProcessStatus.RUNNING, ProcessStatus.WAITING, ProcessStatus.SUSPENDED)


class Drain:
    """One of them. `front`: the mailbox of the name that is drained. `reason`: why, for people."""

    __slots__ = ("front", "reason")

    def __init__(self, front: Mailbox, reason: str) -> None:
        self.front = front
        self.reason = reason

    def is_over(self) -> bool:
        """Whether nothing waits and nothing is in hand any more: then everything that takes part is suspended now."""
        front = self.front
        if front.drain is not self or front.waiting or not all(map(_is_quiet, front.parts())):
            return False
        front.suspend(self.reason)
        return True


def _is_quiet(mailbox: Mailbox) -> bool:
    """Whether its process has nothing to do. One between two lives may get back what it had in hand: it is not quiet."""
    life = mailbox.life
    if mailbox.closed is not None:
        return True
    if life is None:
        return not mailbox.waiting
    if life.outlived or life.process.status not in _SETTLED or life.busy:
        return False
    return not mailbox.waiting or mailbox.suspended is not None
