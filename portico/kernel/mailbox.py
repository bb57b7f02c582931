"""Mailbox: the bounded queue of one name. It outlives the incarnations that read it.

Above: the router puts deliveries in, receivers take them out, a supervisor closes it when its process will not come back. A
closed mailbox answers everything that waited in it: nobody waits for a corpse.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from portico.errors import AgentDraining, DeadlineUnreachable, MailboxFull, ProcessExited, Suspended
from portico.kernel.drain import Drain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.kernel.delivery import Delivery
    from portico.kernel.incarnation import Incarnation
    from portico.kernel.last_crash import LastCrash
    from portico.kernel.messages import Message
    from portico.kernel.supervision import Supervision

SLOW: Final = 0.001
"""Seconds of service below which nobody waits long enough for an estimate to matter."""

SIFT_EVERY: Final = 64
"""After so many refusals, a full mailbox is looked through again for what nobody waits for."""

REMEMBERED: Final = 1000
"""How many restarts are remembered with their time."""

SMOOTHING: Final = 0.125
"""The weight of the newest handling in the mean service time, as TCP weighs round trips (RFC 6298 §2)."""


class Intake(StrEnum):
    """What becomes of a message that comes now."""

    OPEN = "open"
    """It is taken."""
    DRAINING = "draining"
    """It is refused for now: what waits is worked off, then the process stands suspended."""
    SUSPENDED = "suspended"
    """An ask is refused, a send waits."""
    CLOSED = "closed"
    """It is refused: the process has ended for good."""


class Mailbox:
    """What stays of a process when an incarnation ends: its waiting messages, its suspension, and the count of its lives."""

    front: ClassVar[bool] = False
    """True where several processes stand behind the name."""
    hidden: ClassVar[bool] = False
    """True where the name is nobody else's business: it has a caller's key."""

    __slots__ = (
        "__weakref__",
        "_others",
        "_ranked",
        "_reader",
        "_refused",
        "barred",
        "behind",
        "closed",
        "crashes",
        "drain",
        "expired",
        "hands",
        "incarnations",
        "last_crash",
        "life",
        "name",
        "parent",
        "restarted_at",
        "restarts",
        "service_time",
        "size",
        "source",
        "suspended",
        "waiting",
    )

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.waiting: deque[Delivery] = deque()
        """What waits, the next one first; its readers take from it."""
        self.source: Mailbox | None = None
        """Where its readers look when nothing waits here: the mailbox that the members of a pool share."""
        self.behind = ""
        """The name behind which it stands: of a pool, or of a keyed agent. Its own name is nobody else's business."""
        self.hands = 1
        """How many messages may be handled at once."""
        self.service_time = 0.0
        """Seconds that a handling takes, smoothed; 0.0 while that is unknown or too short to matter."""
        self.incarnations = 0
        self.restarts = 0
        self.restarted_at: deque[float] | None = None
        """When it was restarted, on the runtime's clock, the last `REMEMBERED` times; None for never."""
        self.last_crash: LastCrash | None = None
        """How it, or one behind its name, crashed the last time; None where none did."""
        self.crashes = 0
        """How many lives have ended in a crash."""
        self.expired = 0
        """How many messages were dropped because they were out of date before their handling began."""
        self.life: Incarnation | None = None
        """The present incarnation, also after its end; None before the first and after the last."""
        self.parent: Supervision | None = None
        """The supervisor below which its process stands."""
        self.closed: str | None = None
        """Why it takes nothing more: its process will not come back, or works off the last; None where it does."""
        self.suspended: str | None = None
        """Why it takes no message for now; None where it does."""
        self.drain: Drain | None = None
        """The drain that it takes part in; None where it is not drained."""
        self.barred = False
        """Whether `put` has to look twice: closed, suspended or drained."""
        self._refused = 0
        self._ranked = False
        """Whether messages of another priority than 0 may wait."""
        self._reader: asyncio.Future[None] | None = None
        self._others: list[asyncio.Future[None]] | None = None

    def __len__(self) -> int:
        return len(self.waiting)

    def __bool__(self) -> bool:
        return True

    # --- putting in ---------------------------------------------------------------------------------------------------

    def put(self, delivery: Delivery) -> None:
        """Append a delivery; a higher priority goes before lower ones.

        Raises:
            MailboxFull: `size` messages wait already. Its `retry_after` is the time that these will take.
            ProcessExited: the process ended for good.
            Suspended: it is suspended, and somebody waits for the reply. A send waits with the others.
            AgentDraining: it works off what waits, and takes nothing new. Its `retry_after` is the time that this takes.
        """
        items = self.waiting
        if self.barred:
            self._refuse(delivery)
        if len(items) >= self.size:
            self._make_room()
        if self._ranked or delivery.message.priority:
            self._insert(delivery)
        else:
            items.append(delivery)
        if self._reader is not None:
            self.wake()

    def _make_room(self) -> None:
        """Forget those that nobody waits for any more; in a flood, not at every refusal, since it looks at each."""
        self._refused += 1
        if self._refused % SIFT_EVERY == 1:
            living = [delivery for delivery in self.waiting if not delivery.finished]
            self.waiting.clear()
            self.waiting.extend(living)
        if len(self.waiting) >= self.size:
            raise MailboxFull(self.name, self.size, self.wait_estimate() or 1.0)

    def _insert(self, delivery: Delivery) -> None:
        items, priority = self.waiting, delivery.message.priority
        self._ranked = bool(items) or priority != 0
        at = len(items)
        while at and items[at - 1].message.priority < priority:
            at -= 1
        items.insert(at, delivery)

    def _refuse(self, delivery: Delivery) -> None:
        if self.closed is not None:
            raise ProcessExited(self.name, self.closed)
        if self.suspended is not None and not delivery.one_way:
            raise Suspended(self.name, self.suspended)
        if self.drain is not None and self.drain.front is self:
            raise AgentDraining(self.name, self.drain.reason, max(1.0, self.wait_estimate()))

    def put_back(self, delivery: Delivery) -> None:
        """Put a delivery that was taken out before everything else; it has its place already, so no bound applies."""
        if self.closed is not None:
            delivery.fail(ProcessExited(self.name, self.closed))
            return
        self.waiting.appendleft(delivery)
        self.wake()

    def put_accepted(self, delivery: Delivery) -> None:
        """Append a delivery that was accepted before, such as in an earlier life of the program: no bound applies.

        Also where the process is suspended: then it waits. Raises `ProcessExited`; and, behind a keyed name, as its `put`.
        """
        if self.closed is not None:
            raise ProcessExited(self.name, self.closed)
        if self._ranked or delivery.message.priority:
            self._insert(delivery)
        else:
            self.waiting.append(delivery)
        self.wake()

    def home_of(self, delivery: Delivery) -> Mailbox:
        """Where a delivery goes back to: what came through the name of a pool, to the mailbox that its members share."""
        source = self.source
        return source if source is not None and delivery.message.recipient == source.name else self

    def put_notice(self, delivery: Delivery) -> None:
        """Append what the runtime itself has to tell the process: no bound applies. Nothing where it has ended for good."""
        if self.closed is None:
            self.waiting.append(delivery)
            self.wake()

    # --- taking out ---------------------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Until something is there for this reader, or `wake()` or `wake_all()` was called."""
        if self.waiting:
            return
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._reader is None:
            self._reader = reader
        elif self._others is None:
            self._others = [reader]
        else:
            self._others.append(reader)
        try:
            await reader
        finally:
            if self._reader is reader:
                self._reader = self._others.pop() if self._others else None
            elif self._others and reader in self._others:
                self._others.remove(reader)

    @property
    def idle(self) -> bool:
        """Whether a reader waits for a message."""
        return self._reader is not None

    def wake(self) -> None:
        """Let one reader look up."""
        while (reader := self._reader) is not None:
            self._reader = self._others.pop() if self._others else None
            if not reader.done():
                reader.set_result(None)
                return

    def wake_all(self) -> None:
        """Let every reader look up: there is something to attend to."""
        while self._reader is not None:
            self.wake()

    # --- how long it takes --------------------------------------------------------------------------------------------

    def measure(self, seconds: float, *, among_quick: bool = False) -> None:
        """One handling took so long. `among_quick`: the one before was quick, so that a slow one may be the exception."""
        first = self.service_time == 0.0 and not among_quick
        mean = seconds if first else self.service_time + (seconds - self.service_time) * SMOOTHING
        self.service_time = mean if mean >= SLOW else 0.0
        if self.source is not None:
            self.source.measure(seconds, among_quick=among_quick)

    def wait_estimate(self) -> float:
        """Seconds until a message that comes now would be taken: what waits, at the measured pace. 0.0 where that is unknown."""
        return len(self.waiting) * self.service_time / self.hands

    def refuse_hopeless(self, message: Message, now: float) -> None:
        """Raises `DeadlineUnreachable` where what waits before a message takes longer than its deadline allows."""
        remaining = (message.deadline or now) - now
        if self.wait_estimate() <= remaining:
            return
        before = sum(other.message.priority >= message.priority and not other.finished for other in self.waiting)
        wait = before * self.service_time / self.hands
        if wait > remaining:
            raise DeadlineUnreachable(self.name, wait, max(0.0, remaining))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def close(self, reason: str) -> list[Delivery]:
        """The process will not come back: answer all that waits with `ProcessExited`. Returns what waited."""
        self.closed = reason
        self.barred = True
        self.life = self.drain = None
        left = [delivery for delivery in self.waiting if not delivery.finished]
        self.waiting.clear()
        for delivery in left:
            delivery.fail(ProcessExited(self.name, reason))
        return left

    def bar(self, reason: str) -> None:
        """Take nothing more, as if it had ended already; what waits is still handled."""
        self.closed = reason
        self.barred = True

    def reopen(self) -> None:
        """A process of this name is started anew."""
        self.closed = None
        self.barred = self.suspended is not None or self.drain is not None

    def suspend(self, reason: str) -> None:
        """Take no message until `resume()`: asks are refused, sends wait. Also across restarts."""
        self.suspended = reason
        self._end_drain()
        self.barred = True
        if self.life is not None:
            self.life.suspend()

    def resume(self, approver: str) -> None:
        """Take messages again."""
        self.suspended = None
        self._end_drain()
        self.barred = self.closed is not None
        if self.life is not None:
            self.life.resume(approver)

    def begin_drain(self, reason: str) -> None:
        """Take nothing new, and suspend when what waits is handled. Nothing where it is suspended, or has ended."""
        if self.suspended is not None or self.closed is not None:
            return
        drain = Drain(self, reason)
        for part in self.parts():
            part.drain = drain
        self.drain = drain
        self.barred = True
        drain.is_over()

    def _end_drain(self) -> None:
        """The name is not drained any more. What is only part of a drain stays that: the others wait for it."""
        if self.drain is not None and self.drain.front is self:
            for part in self.parts():
                part.drain = None
            self.drain = None

    def parts(self) -> Iterable[Mailbox]:
        """Those whose readers take what comes to this name."""
        return (self,)

    # --- what became of its processes ---------------------------------------------------------------------------------

    def count_restart(self, now: float) -> None:
        """Another incarnation has taken over, at `now` on the runtime's clock."""
        self.restarts += 1
        if self.restarted_at is None:
            self.restarted_at = deque(maxlen=REMEMBERED)
        self.restarted_at.append(now)

    def restarts_since(self, then: float) -> int:
        """How often it was restarted since `then` on the runtime's clock; at most `REMEMBERED`."""
        return 0 if self.restarted_at is None else sum(at >= then for at in self.restarted_at)

    @property
    def in_hand(self) -> int:
        """How many messages its processes have in hand, or owe a reply to."""
        life = self.life
        return 0 if life is None else life.at_work

    @property
    def intake(self) -> Intake:
        """What becomes of a message that comes now."""
        if self.closed is not None:
            return Intake.CLOSED
        if self.suspended is not None:
            return Intake.SUSPENDED
        return Intake.OPEN if self.drain is None else Intake.DRAINING

    def snapshot(self) -> dict[str, Any]:
        """What there is to see from outside: JSON-able."""
        return {
            "depth": len(self.waiting),
            "size": self.size,
            "incarnation": self.incarnations,
            "restarts": self.restarts,
            "expired": self.expired,
        }
