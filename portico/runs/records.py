"""RunRecords: the runs that are remembered. In memory, bounded: the oldest finished ones are forgotten first."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from portico.errors import UnknownRun

if TYPE_CHECKING:
    from portico.runs.run import Run


class RunRecords:
    """Runs by id. A run belongs to its principal; to others it does not exist."""

    def __init__(self, limit: int = 10_000) -> None:
        """`limit`: how many runs are remembered; one that has not ended is never forgotten."""
        self._runs: dict[str, Run] = {}
        self._limit = limit

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Remember a run."""
        self._runs[run.run_id] = run
        if len(self._runs) > self._limit:
            self._forget()

    def _forget(self) -> None:
        """Drop the oldest that has ended; among a few, since those that have not are as a rule young."""
        for run_id, run in islice(self._runs.items(), 100):
            if run.done:
                del self._runs[run_id]
                return
        for run_id, run in self._runs.items():
            if run.done:
                del self._runs[run_id]
                return

    def get(self, run_id: str, principal: str | None) -> Run:
        """The run of that id. Raises `UnknownRun` where it is not there or belongs to somebody else."""
        run = self._runs.get(run_id)
        if run is None or run.call.principal != principal:
            raise UnknownRun(run_id)
        return run

    def newest(self, principal: str | None, *, limit: int = 50, before: str | None = None) -> list[Run]:
        """The runs of a principal, newest first; `before`: only those older than that run."""
        found: list[Run] = []
        skipping = before is not None
        for run in reversed(self._runs.values()):
            if skipping:
                skipping = run.run_id != before
            elif run.call.principal == principal:
                found.append(run)
                if len(found) == limit:
                    break
        return found
