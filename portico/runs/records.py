"""RunRecords: the runs that are remembered. In memory, bounded: the oldest finished ones are forgotten first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from portico.errors import UnknownRun

if TYPE_CHECKING:
    from portico.runs.run import Run

LOOKS: Final = 8
"""How many of the oldest are looked at for one to forget: more than one, so that a crowd of long runs is worked off."""


class RunRecords:
    """Runs by id. A run belongs to its principal; to others it does not exist."""

    def __init__(self, limit: int = 10_000) -> None:
        """`limit`: how many runs are remembered; one that has not ended is never forgotten."""
        self._runs: dict[str, Run] = {}
        self._by_age: deque[Run] = deque()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Remember a run."""
        self._runs[run.run_id] = run
        self._by_age.append(run)
        if len(self._runs) > self._limit:
            self._forget()

    def _forget(self) -> None:
        """Drop the oldest that has ended. Those that have not go to the back of the line; few are looked at each time."""
        for _ in range(LOOKS):
            oldest = self._by_age.popleft()
            if oldest.done:
                del self._runs[oldest.run_id]
                if len(self._runs) <= self._limit:
                    return
            else:
                self._by_age.append(oldest)

    def get(self, run_id: str, principal: str | None) -> Run:
        """The run of that id. Raises `UnknownRun` where it is not there or belongs to somebody else."""
        run = self._runs.get(run_id)
        if run is None or run.principal != principal:
            raise UnknownRun(run_id)
        return run

    def newest(self, principal: str | None, *, limit: int = 50, before: str | None = None) -> list[Run]:
        """The runs of a principal, newest first; `before`: only those older than that run."""
        found: list[Run] = []
        skipping = before is not None
        for run in reversed(self._runs.values()):
            if skipping:
                skipping = run.run_id != before
            elif run.principal == principal:
                found.append(run)
                if len(found) == limit:
                    break
        return found
