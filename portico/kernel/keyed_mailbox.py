"""KeyedMailbox: the mailbox of a keyed agent's name. It holds nothing itself, but hands on by key.

Above: the router puts deliveries in; `keyed.py` starts a process where a key has none. Below: one ordinary mailbox per key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from portico.errors import KeyMissing, ProcessExited, SelfAsk, TooManyKeys
from portico.kernel.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portico.kernel.clock import Clock
    from portico.kernel.delivery import Delivery
    from portico.kernel.keyed import Keyed, KeyedSupervision
    from portico.kernel.messages import Message

LONGEST_KEY: Final = 256
"""Characters: keys come from strangers, and each is a name in memory."""

Key = tuple[str | None, str]
"""The caller's principal (None where it is unknown or does not matter), and the key."""


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _plain(key: int | str) -> str:
    """A number as a key; one that is longer than Python writes is too long for a key as well."""
    try:
        return str(key)
    except ValueError:
        return ""


class KeyMailbox(Mailbox):
    """The mailbox of one key."""

    hidden = True

    __slots__ = ("key", "last_used", "wanted")

    def __init__(self, name: str, size: int, key: Key) -> None:
        super().__init__(name, size)
        self.key = key
        self.last_used = 0.0
        self.wanted = False
        """Whether its supervisor has been told already that a message waits for a process."""


class KeyedMailbox(Mailbox):
    """The mailbox of a keyed agent's name: it holds nothing itself, but hands on by key."""

    front = True

    __slots__ = ("_clock", "_settings", "boxes", "supervision")

    def __init__(self, settings: Keyed, clock: Clock) -> None:
        super().__init__(settings.name, settings.template.mailbox_size)
        self._settings = settings
        self._clock = clock
        self.boxes: dict[Key, KeyMailbox] = {}
        """By key, the longest unused first."""
        self.supervision: KeyedSupervision | None = None
        """Who starts processes: its present life, or the last one, whose successor starts what waits."""

    def __len__(self) -> int:
        return sum(len(box) for box in self.boxes.values())

    def put(self, delivery: Delivery) -> None:
        """Hand a delivery to the mailbox of its key; a key that is new, or asleep, gets a process.

        Raises:
            KeyMissing: it names no key.
            SelfAsk: it is from the very process that would have to handle it.
            TooManyKeys: `max_keys` processes are there, and all of them are at work.
        """
        if self.barred:
            self._refuse(delivery)
        box = self._box(delivery.message)
        if box.service_time and delivery.message.deadline is not None and not delivery.one_way:
            box.refuse_hopeless(delivery.message, box.last_used)
        if delivery.message.sender == box.name and not delivery.one_way and box.life is not None and box.hands == box.life.load:
            raise SelfAsk(box.name)
        box.put(delivery)
        self._want(box)

    def put_accepted(self, delivery: Delivery) -> None:
        """The same for what was accepted before: the bound of a key's mailbox does not apply. Raises as `put`."""
        if self.closed is not None:
            raise ProcessExited(self.name, self.closed)
        box = self._box(delivery.message)
        box.put_accepted(delivery)
        self._want(box)

    def _box(self, message: Message) -> KeyMailbox:
        """The mailbox of a message's key, which is used now. Raises `KeyMissing`, `TooManyKeys`."""
        key = self._key(message)
        box = self.boxes.pop(key, None)
        if box is None:
            box = self._new(key)
        self.boxes[key] = box  # the last one used is the last in line
        box.last_used = self._clock.now()
        return box

    def _want(self, box: KeyMailbox) -> None:
        if box.life is None and not box.wanted and self.supervision is not None:
            self.supervision.want(box)

    def _key(self, message: Message) -> Key:
        settings, payload = self._settings, message.payload
        if payload.__class__ is not dict:
            raise KeyMissing(self.name, settings.per_key, "the payload is no mapping")
        key: Any = cast("dict[str, Any]", payload).get(settings.per_key)
        if key.__class__ is not str:
            if key is None:
                raise KeyMissing(self.name, settings.per_key, "it is missing")
            if not isinstance(key, int | str) or isinstance(key, bool):
                raise KeyMissing(self.name, settings.per_key, "it must be a string or an integer")
            key = _plain(key)
        if not 0 < len(key) <= LONGEST_KEY:
            raise KeyMissing(self.name, settings.per_key, f"it must have 1 to {LONGEST_KEY} characters")
        origin = message.origin
        return (None if origin is None or settings.shared else origin.principal, key)

    def _new(self, key: Key) -> KeyMailbox:
        settings = self._settings
        if len(self.boxes) >= settings.max_keys and not (self.supervision and self.supervision.make_room()):
            raise TooManyKeys(self.name, settings.max_keys)
        principal, value = key
        # Quoted, so that no key can be written that reads like another caller's.
        try:
            name = f"{self.name}/{_quoted(value)}" + (f"@{_quoted(principal)}" if principal is not None else "")
        except UnicodeEncodeError:
            raise KeyMissing(self.name, settings.per_key, "it is no text: it has half of a surrogate pair") from None
        box = KeyMailbox(name, self.size, key)
        box.behind = self.name
        earlier = self.supervision.router.registry.suspensions.pop(name, None) if self.supervision is not None else None
        reason = self.suspended if earlier is None else earlier
        box.drain = self.drain
        if reason is not None:
            box.suspend(reason)
        return box

    def close(self, reason: str) -> list[Delivery]:
        """Close every key as well."""
        left = super().close(reason)
        for box in self.boxes.values():
            left += box.close(reason)
        self.boxes.clear()
        return left

    def parts(self) -> Iterable[Mailbox]:
        """See `Mailbox.parts`."""
        return self.boxes.values()

    @property
    def in_hand(self) -> int:
        """See `Mailbox.in_hand`."""
        return sum(part.in_hand for part in self.parts())

    def suspend(self, reason: str) -> None:
        """Suspend every key as well."""
        super().suspend(reason)
        for box in self.boxes.values():
            box.suspend(reason)

    def resume(self, approver: str) -> None:
        """Resume every key as well."""
        super().resume(approver)
        for box in self.boxes.values():
            box.resume(approver)
