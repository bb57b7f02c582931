"""Rounds: the runs that wait between two requests of their client (MCP 2026-07-28), from `InputRequiredResult` to the retry.

Such a run has no connection: it holds no agent and no worker, but memory. So there is a limit for each caller and one for all,
and a run whose client does not come back ends after a time. Above: `following.py`. Below: `request_state.py`, the book.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from portico.errors import InputTimeout, TooManyAsks, UnknownRun
from portico.mcp_bridge.serving.request_state import RequestStates, invalid_state

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from portico.kernel.clock import Timer
    from portico.mcp_bridge.serving.request_state import Binding
    from portico.runs.book import RunBook
    from portico.runs.run import Run

MOST: Final = 1000
"""Runs that wait between two rounds at once."""
MOST_OF_ONE: Final = 100
"""The same, of one caller."""


@dataclass(slots=True)
class Pause:
    """A run between two rounds."""

    run: Run
    payer: str
    """Who called: the principal, or the address."""
    told: int
    """The number of the last event that the client was told of."""
    responses: dict[str, Any]
    """Those that have come, while others are missing."""
    timer: Timer


class Rounds:
    """See above.

    Args:
        book: the runs.
        patience: seconds that a run waits for its client.
    """

    def __init__(self, book: RunBook, patience: float) -> None:
        self._book = book
        self._patience = patience
        self._states = RequestStates(book.clock, patience)
        self._paused: dict[str, Pause] = {}

    def __len__(self) -> int:
        return len(self._paused)

    def pause(self, run: Run, binding: Binding, payer: str, *, told: int, responses: Mapping[str, Any]) -> str:
        """Let a run wait for the next round. Returns the sealed state that leads back to it.

        Raises:
            TooManyAsks: too many wait; this one has to end.
        """
        self._refuse_a_crowd(payer)
        waiting = run.waiting
        assert waiting is not None  # noqa: S101  # the caller has looked
        self.leave(run, payer, told=told, responses=responses)
        return self._states.seal(run.run_id, waiting["key"], binding)

    def leave(self, run: Run, payer: str, *, told: int = 0, responses: Mapping[str, Any] | None = None) -> None:
        """Let a run wait for whoever answers it, for as long as the patience goes. Raises `TooManyAsks`."""
        self._refuse_a_crowd(payer)
        timer = self._book.clock.call_at(self._book.clock.now() + self._patience, partial(self._is_over, run))
        self._paused[run.run_id] = Pause(run, payer, told, dict(responses or {}), timer)

    async def take_up(self, state: str, binding: Binding) -> tuple[Run, str, Pause | None]:
        """The run that a state leads to, the key of what it waited for, and what was kept of it.

        Raises:
            MCPError: the state is not valid for this request, or the run is forgotten.
        """
        run_id, key = self._states.open(state, binding)
        pause = self._paused.pop(run_id, None)
        if pause is not None:
            pause.timer.cancel()
            return pause.run, key, pause
        try:  # a second retry with the same state, or somebody has answered by another way
            return await self._book.find(run_id, binding.principal), key, None
        except UnknownRun:
            raise invalid_state() from None

    def _refuse_a_crowd(self, payer: str) -> None:
        for run_id, pause in list(self._paused.items()) if len(self._paused) >= MOST_OF_ONE else ():
            if pause.run.done:
                pause.timer.cancel()
                del self._paused[run_id]
        if len(self._paused) >= MOST:
            raise TooManyAsks(MOST)
        if sum(pause.payer == payer for pause in self._paused.values()) >= MOST_OF_ONE:
            raise TooManyAsks(MOST_OF_ONE)

    def _is_over(self, run: Run) -> None:
        self._paused.pop(run.run_id, None)
        give_up(run)


def give_up(run: Run) -> None:
    """Nobody has answered: the run ends, wherever it waits."""
    waiting, delivery = run.waiting, run.delivery
    if waiting is not None and delivery is not None:
        delivery.fail(InputTimeout(waiting.get("prompt", "")))
