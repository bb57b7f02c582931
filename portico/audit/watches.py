"""Watches: context managers around one call, or one handling, which record how it ended.

Above: `AuditTrail`, which makes them for the levels `calls` and `messages`. They raise nothing and hold nothing up.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from portico.audit.chain import MICROSECONDS
from portico.runs.audit_entry import ACCEPTED, OK, AuditAction, outcome_of
from portico.runs.auditor import Doer
from portico.runs.dispatcher import HandedOver
from portico.traceparent import well_formed

if TYPE_CHECKING:
    from types import TracebackType

    from portico.kernel.messages import Message
    from portico.runs.auditor import Auditor
    from portico.runs.call import Call


class CallWatch:
    """Around one call. `begun`: it is only begun inside; its end is recorded elsewhere, if at all."""

    __slots__ = ("_auditor", "_begun", "_call", "_since")

    def __init__(self, auditor: Auditor, call: Call, *, begun: bool) -> None:
        self._auditor = auditor
        self._call = call
        self._begun = begun

    def __enter__(self) -> None:
        self._since = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        call, took = self._call, perf_counter() - self._since
        if error is None:
            outcome = ACCEPTED if self._begun else OK
        else:
            outcome = ACCEPTED if isinstance(error, HandedOver) else outcome_of(error)
        self._auditor.record(
            AuditAction.CALL,
            outcome,
            doer=Doer(
                face=call.face,
                principal=call.principal,
                address=call.address,
                request_id=call.request_id,
                trace_id=trace_of(call.traceparent),
            ),
            agent=call.endpoint.agent,
            operation=call.endpoint.operation.name,
            run_id=call.run.run_id if call.run is not None else None,
            duration_us=int(took * MICROSECONDS),
            details={"replayed": True} if call.replayed else None,
        )


class HandlingWatch:
    """Around one handling of what another agent has asked or sent."""

    __slots__ = ("_auditor", "_message", "_since")

    def __init__(self, auditor: Auditor, message: Message) -> None:
        self._auditor = auditor
        self._message = message

    def __enter__(self) -> None:
        self._since = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        message, took = self._message, perf_counter() - self._since
        origin = message.origin
        self._auditor.record(
            AuditAction.MESSAGE,
            OK if error is None else outcome_of(error),
            doer=Doer(
                principal=origin.principal if origin is not None else None,
                address=origin.address if origin is not None else None,
                request_id=origin.request_id if origin is not None else None,
                trace_id=trace_of(message.traceparent),
            ),
            agent=message.recipient,
            operation=message.type,
            run_id=origin.call_id if origin is not None else None,
            duration_us=int(took * MICROSECONDS),
            details={"sender": message.sender, "attempt": message.attempt},
        )


def trace_of(traceparent: str | None) -> str | None:
    """The trace that a `traceparent` names (W3C Trace Context): 32 hex digits; None where it names none."""
    found = well_formed(traceparent)
    return found[3:35] if found is not None else None
