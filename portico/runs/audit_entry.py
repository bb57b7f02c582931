"""AuditEntry: one line of the audit trail: who did what to which agent, when, with what outcome. It never holds a payload.

Above: the port `Auditor`, whoever records, the room `audit`, which chains and keeps entries, the stores. Plain data.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from portico.errors import Cancelled, PorticoError

if TYPE_CHECKING:
    from collections.abc import Mapping

OK: Final = "ok"
"""The outcome of what was done. Any other is the slug of the error that it ended with."""
ACCEPTED: Final = "accepted"
"""The outcome of a call that was stored: how it ends, its run says."""
GENESIS: Final = "0" * 64
"""What stands before the first entry of a chain."""

Details: TypeAlias = "Mapping[str, str | int | bool | None]"
"""A few plain values more; no numbers with a fraction, for which there is more than one spelling."""


def outcome_of(error: BaseException) -> str:
    """How what ended with an error ended: its slug; that of a Portico error for what is none of ours."""
    if isinstance(error, PorticoError):
        return error.slug
    return Cancelled.slug if isinstance(error, asyncio.CancelledError) else PorticoError.slug


class AuditAction(StrEnum):
    """What can be done. The values are what entries say."""

    GATEWAY_STARTED = "gateway.started"
    """A gateway takes calls. `details`: its version."""
    GATEWAY_STOPPED = "gateway.stopped"
    """It takes none any more."""
    SUSPEND = "agent.suspend"
    """An agent was told to take no messages. `details`: the reason."""
    RESUME = "agent.resume"
    """An agent was told to take messages again."""
    RESTART = "agent.restart"
    """An agent was told to start anew."""
    DRAIN = "agent.drain"
    """An agent was told to handle what waits and to take nothing more. `details`: the reason."""
    STATE_READ = "agent.state_read"
    """Somebody was shown an agent's state."""
    CANCEL = "run.cancel"
    """A run was cancelled."""
    ANSWER = "run.answer"
    """A run was given the input that it waits for."""
    REDELIVER = "run.redeliver_callback"
    """The end of a run was told again."""
    REDRIVE = "dead_letter.redrive"
    """A dead letter was sent again. `details`: its id."""
    AUDIT_READ = "audit.read"
    """Somebody was shown the audit trail itself."""
    REFUSED = "access.refused"
    """A request was refused since its caller is not known, or may not. `details`: method and path."""
    REFUSED_MORE = "access.refused_more"
    """So many more were refused in one minute than have entries of their own. `details`: how many."""
    KEY_ADDED = "key.added"
    """The gateway has found a new key in its file. `details`: its id, whom it stands for, and its scopes."""
    KEY_REMOVED = "key.removed"
    """The gateway has found a key gone from its file. `details`: the same."""
    CALL = "call"
    """An agent was asked, or sent something, from outside. With the level `calls`."""
    ENDED = "call.ended"
    """A call has ended that was `accepted` before. With the level `calls`. `details`: whose it is."""
    MESSAGE = "message"
    """An agent asked or sent another one something. With the level `messages`. `details`: the sender."""
    LOST = "audit.lost"
    """So many entries could not be written before this one. `details`: how many, of what time, and why."""
    PRUNED = "audit.pruned"
    """The oldest were removed before this one. `details`: the number and the hash of the last of them, and how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """What happened."""

    at_us: int
    """When: microseconds since the epoch. A whole number, for which there is one spelling."""
    action: str
    """An `AuditAction`, or a word of a program's own."""
    outcome: str = OK
    """`ok`, `accepted`, or the slug of an error."""
    principal: str | None = None
    """Who did it, where the gateway knows."""
    address: str | None = None
    """The network address that it came from."""
    face: str | None = None
    """How it came: `http`, `websocket`, `mcp`, `cli`; None for the gateway itself."""
    agent: str | None = None
    """To whom it was done: the name of a process."""
    operation: str | None = None
    """What that was asked."""
    run_id: str | None = None
    """The run that it was done to, or that it has become."""
    request_id: str | None = None
    """The request that brought it."""
    trace_id: str | None = None
    """The trace that it belongs to: 32 hex digits."""
    duration_us: int | None = None
    """How long it took, where that is known: microseconds."""
    details: Details | None = None
    """What the action's words in `AuditAction` say, and nothing that a caller has sent but a reason."""


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry in its place in a chain."""

    seq: int
    """Its number: 1 for the first, without gaps."""
    entry: AuditEntry
    """What happened."""
    prev: str
    """The hash of the entry before it: 64 hex digits; `GENESIS` for the first."""
    hash: str
    """Its own: over everything of it, `prev` and `seq` too."""


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands."""

    seq: int = 0
    """The number of its last entry; 0 where there is none."""
    hash: str = GENESIS
    """The hash of its last entry."""
