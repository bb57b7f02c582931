"""How a kernel event looks to an admin: plain data of bounded length, without payloads and without the names of keys.

Above: `routes/newsroom.py`. Below: the records of `kernel/events.py`, which may hold exceptions and messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.kernel.events import EventKind, SupervisorReport
from portico.kernel.exits import described
from portico.kernel.keyed_mailbox import KeyedMailbox
from portico.kernel.messages import Message
from portico.runs.run_view import rfc3339
from portico.runs.tree_view import without_keys

if TYPE_CHECKING:
    from portico.kernel.events import KernelEvent
    from portico.kernel.router import Router

LONGEST: Final = 2048
"""Characters of one text."""
_OF_EVERY_KEY: Final = frozenset(
    {EventKind.PROCESS_STARTED, EventKind.PROCESS_STOPPED, EventKind.PROCESS_STATUS, EventKind.PROCESS_RESTARTED}
)
"""What happens to each process of a keyed agent all the time: nobody wants to see that."""


def kernel_event_view(router: Router, event: KernelEvent) -> dict[str, Any] | None:
    """What is told of it; None for nothing. What happens behind a keyed agent's name, happens to that."""
    front = front_of(router, event.name)
    if front is not None and front != event.name and event.kind in _OF_EVERY_KEY:
        return None
    view: dict[str, Any] = {"at": rfc3339(event.timestamp), "name": event.name if front is None else front}
    for key, value in event.data.items():
        view |= _part(key, value, front)
    if event.kind is EventKind.PROCESS_CRASHED:
        mailbox = router.registry.get(event.name)
        crash = mailbox.last_crash if mailbox is not None else None
        if crash is not None:
            view |= {"incarnation": crash.incarnation, "attempt": crash.attempt}
    return view


def front_of(router: Router, name: str) -> str | None:
    """The keyed agent that this is, or behind whose name it stands, or stood; None for any other."""
    mailbox = router.registry.get(name)
    if mailbox is None and "/" in name:  # it has ended: its own mailbox is gone
        mailbox = router.registry.get(name.partition("/")[0])
    if isinstance(mailbox, KeyedMailbox):
        return mailbox.name
    return mailbox.behind if mailbox is not None and mailbox.hidden else None


def _part(key: str, value: Any, front: str | None) -> dict[str, Any]:
    def cut(text: str) -> str:
        text = without_keys(text, front)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"

    if isinstance(value, BaseException):
        kind = type(value).__name__
        return {"error": {"type": kind, "message": cut(described(value).removeprefix(kind).removeprefix(": "))}}
    if isinstance(value, SupervisorReport):
        report = {"supervisor": value.supervisor, "context": value.context, "reason": value.reason, "offender": value.offender}
        return {part: cut(text) for part, text in report.items()}
    if isinstance(value, Message):
        origin = value.origin
        return {"operation": cut(value.type), "message_id": value.id, "call_id": origin.call_id if origin is not None else None}
    if value is None or isinstance(value, bool | int | float):
        return {key: value}
    return {key: cut(str(value))}
