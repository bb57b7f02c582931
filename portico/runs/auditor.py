"""Auditor: who is told what was done, for the audit trail. The port; `audit` implements it, `Unaudited` is its twin that forgets.

Above: the faces, which tell. It is told after the fact: it decides nothing, and whoever tells never waits for it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from portico.runs.audit_entry import OK

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from portico.runs.audit_entry import Details
    from portico.runs.call import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Doer:
    """Who does something, as far as its face knows."""

    face: str | None = None
    """`http`, `websocket`, `mcp`, `cli`; None for the gateway itself."""
    principal: str | None = None
    """Who it is."""
    address: str | None = None
    """Its network address."""
    request_id: str | None = None
    """Its request."""
    trace_id: str | None = None
    """The trace of that: 32 hex digits."""


GATEWAY = Doer()
"""The gateway itself."""


class Auditor(Protocol):
    """Takes what was done. Called on the event loop; each takes some microseconds, and none may raise."""

    @property
    def on(self) -> bool:
        """Whether actions are recorded at all."""
        ...

    @property
    def calls(self) -> bool:
        """Whether calls are recorded too."""
        ...

    def record(
        self,
        action: str,
        outcome: str = OK,
        *,
        doer: Doer = GATEWAY,
        agent: str | None = None,
        operation: str | None = None,
        run_id: str | None = None,
        duration_us: int | None = None,
        details: Details | None = None,
        refused: bool = False,
    ) -> None:
        """Something was done. The fields are those of `AuditEntry`.

        `refused`: nothing was, for it was refused, as anybody may be as often as they like: of a flood, the most are only counted.
        """
        ...

    async def settled(self) -> None:
        """Wait until what was recorded before can be read from the store; but not for long."""
        ...

    def call(self, call: Call, *, begun: bool) -> AbstractContextManager[None]:
        """Around one call, from before it is let in. `begun`: what is inside only begins it, and does not see its end."""
        ...


class Unaudited:
    """An `Auditor` that forgets."""

    on = False
    calls = False

    def record(
        self,
        action: str,
        outcome: str = OK,
        *,
        doer: Doer = GATEWAY,
        agent: str | None = None,
        operation: str | None = None,
        run_id: str | None = None,
        duration_us: int | None = None,
        details: Details | None = None,
        refused: bool = False,
    ) -> None:
        """See `Auditor.record`."""

    async def settled(self) -> None:
        """See `Auditor.settled`."""

    def call(self, call: Call, *, begun: bool) -> AbstractContextManager[None]:
        """See `Auditor.call`."""
        del call, begun
        return nullcontext()
