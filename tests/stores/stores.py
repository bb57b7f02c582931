"""What the tests of stores share: runs to store, and waiting for what was submitted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from portico.runs.record import RunRecord
from portico.runs.status import RunStatus
from portico.runs.store import AcceptRun, AddUsage, EndRun
from portico.runs.usage import Usage, UsageRow

if TYPE_CHECKING:
    from portico.kernel.protocols import Lineage
    from portico.runs.store import Change, RunStore

NOW: Final = 1_800_000_000.0


def a_run(run_id: str, **fields: Any) -> RunRecord:
    """A run with little in it."""
    values: dict[str, Any] = {"agent": "echo", "operation": "message", "created": NOW, **fields}
    return RunRecord(run_id=run_id, **values)


def accepted(run_id: str, *, scope: bytes | None = None, key_until: float = 0.0, **fields: Any) -> AcceptRun:
    """The acceptance of a run with little in it."""
    return AcceptRun(a_run(run_id, **fields), scope, key_until)


def ended(run_id: str, at: float = NOW + 1, status: RunStatus = RunStatus.SUCCEEDED, **fields: Any) -> EndRun:
    """The end of a run at its first attempt."""
    return EndRun(run_id, status, at, 1, **fields)


A_CALL: Final = Usage(calls=1, tokens_in=100, tokens_out=10, cost=25_000, duration_us=1_500_000)
"""What a call of a model may take."""


def used(run_id: str = "", usage: Usage = A_CALL, **fields: Any) -> AddUsage:
    """That a model was called."""
    values: dict[str, Any] = {"day": "2027-01-15", "agent": "echo", "provider": "openai", "model": "gpt-4o-mini", **fields}
    return AddUsage(UsageRow(run_id=run_id, usage=usage, **values))


def submitted(store: RunStore, *changes: Change, lineage: Lineage | None = None) -> asyncio.Future[Exception | None]:
    """Submit the changes. Returns what becomes of them."""
    outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    store.submit(changes, outcome.set_result, lineage)
    return outcome


async def stored(store: RunStore, *changes: Change, lineage: Lineage | None = None) -> None:
    """Submit the changes, and wait until they are stored. Raises what was in the way."""
    error = await submitted(store, *changes, lineage=lineage)
    if error is not None:
        raise error
