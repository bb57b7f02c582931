"""RunRecords: the plain asks that are remembered. In memory, bounded: the oldest finished ones are forgotten first."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from portico.runs.run import Run

LOOKS: Final = 8
"""How many of the oldest are looked at for one to forget: more than one, so that a crowd of long runs is worked off."""


class RunRecords:
    """Runs by id."""

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

    def remove(self, run: Run) -> None:
        """It is remembered elsewhere."""
        if self._runs.pop(run.run_id, None) is not None:
            self._by_age.remove(run)

    def find(self, run_id: str) -> Run | None:
        """The run of that id, whosever it is; None where it is not there."""
        return self._runs.get(run_id)

    def newest_first(self) -> Iterator[Run]:
        """Every run, the newest first."""
        return iter(sorted(self._runs.values(), key=lambda run: (run.created, run.run_id), reverse=True))
