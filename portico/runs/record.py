"""RunRecord: a run as it is stored. Plain data, in and out of every `RunStore`.

Read-only by convention, as `Message` is: one is made for every stored run, and a frozen one takes three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico.runs.status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.runs.callback import Callback
    from portico.runs.usage import UsageRow


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """One run. Times are seconds since the epoch."""

    run_id: str
    """Unique; chosen by the caller where that wanted to."""
    agent: str
    """Who is to handle it."""
    operation: str
    """What that is asked: the message's type."""
    payload: Any = None
    """The request: JSON-able data, or bytes; without what its contract marks as secret."""
    principal: str | None = None
    """Whose it is."""
    address: str | None = None
    """From where it came."""
    parent: str | None = None
    """The run whose handler sent it."""
    one_way: bool = False
    """A send: nobody waits for the reply."""
    once: bool = False
    """Its operation says `idempotent=False`: where its handling was interrupted, it is not handled again."""
    redacted: bool = False
    """Something secret was left out of the payload: it can be handled only while the program lives that took it."""
    priority: int = 0
    """As of its message."""
    timeout: float = 3600.0
    """Seconds that it may take, from when it is due; the time that the program was down does not count."""
    created: float = 0.0
    """When it was accepted."""
    due: float | None = None
    """When it is to be delivered; None for at once."""
    traceparent: str | None = None
    """W3C Trace Context of the caller's span."""
    metadata: Mapping[str, Any] | None = None
    """What the caller wanted to be kept with it."""
    redrive_of: str | None = None
    """The dead letter that it sends again."""
    fingerprint: bytes | None = None
    """A hash of the request, where it may come again: under an idempotency key, or a run id that its caller chose."""
    status: RunStatus = RunStatus.QUEUED
    """Where it is."""
    attempts: int = 0
    """How often its handling has begun."""
    started: float | None = None
    """When its handling began last."""
    finished: float | None = None
    """When it ended."""
    output: Any = None
    """The reply; None where there is none, or where it is kept no more."""
    meta: Mapping[str, Any] | None = None
    """What the reply hinted: `status`, `headers`, `media_type`."""
    error: Mapping[str, Any] | None = None
    """Why it has no output, as `runs/failure.py` has it."""
    waiting: Mapping[str, Any] | None = None
    """What it waits for, as `runs/waiting.py` has it."""
    last_seq: int = 1
    """The number of its last event but the terminal one, once it has ended."""
    dead: str | None = None
    """Why it is a dead letter; None where it is none, or was sent again."""
    number: int = 0
    """Its place in the order of acceptance; the store gives it."""
    usage: Sequence[UsageRow] = ()
    """What model calls took in it so far; a store gives it, and takes it only as `AddUsage`."""
    callback: Callback | None = None
    """Who is to be told of its end; None for nobody."""
    stripped: bool = False
    """Whether payload, output, events and steps were removed by retention."""
