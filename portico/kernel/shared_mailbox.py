"""SharedMailbox: the mailbox of a pool's name. Its members read their own mailboxes first, then this one.

Above: the router puts deliveries in; `pool.py` says who the members are. Below: their mailboxes, whose readers it wakes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portico.kernel.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.kernel.delivery import Delivery


class SharedMailbox(Mailbox):
    """See the module."""

    front = True

    __slots__ = ("members",)

    def __init__(self, name: str, size: int) -> None:
        super().__init__(name, size)
        self.members: dict[str, Mailbox] = {}
        """The members' own mailboxes, by name."""

    def put(self, delivery: Delivery) -> None:
        """See `Mailbox.put`."""
        super().put(delivery)
        self.wake()

    def wake(self) -> None:
        """Let an idle member look up: the least loaded, and among equals the one whose turn was longest ago."""
        idle = [member for member in self.members.values() if member.idle and not member.waiting and member.suspended is None]
        if idle:
            member = min(idle, key=_load)
            self.members[member.name] = self.members.pop(member.name)
            member.wake()

    def parts(self) -> Iterable[Mailbox]:
        """See `Mailbox.parts`."""
        return self.members.values()

    @property
    def in_hand(self) -> int:
        """See `Mailbox.in_hand`."""
        return sum(part.in_hand for part in self.parts())

    def suspend(self, reason: str) -> None:
        """Suspend every member as well."""
        super().suspend(reason)
        for member in self.members.values():
            member.suspend(reason)

    def resume(self, approver: str) -> None:
        """Resume every member as well."""
        super().resume(approver)
        for member in self.members.values():
            member.resume(approver)
        for _ in self.members:
            self.wake()


def _load(member: Mailbox) -> int:
    return 0 if member.life is None else member.life.load
