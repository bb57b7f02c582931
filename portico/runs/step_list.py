"""StepExecutor: a list of named steps with shared state, on top of `ctx.step`. A resume skips the steps that are finished.

    state = await StepExecutor(ctx).run([Step("fetch", fetch), Step("summarise", summarise, retries=2)], initial_state={"url": url})

Above: handlers. Below: `Context`. What is stored, and what a resume is, is said there.
"""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico.errors import InvalidOperation
from portico.kernel.memory import copied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from portico.kernel.protocols import Context


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a list."""

    name: str
    """Unique in its list; the member of the shared state under which its result is found."""
    function: Callable[[Context, dict[str, Any]], Any]
    """Called with the context and the shared state, which it may change. It may be a coroutine function."""
    retries: int = 0
    """How often it is called again after it has raised; with the state as it was before the step."""
    retry_delay: float = 1.0
    """Seconds before each of these."""
    timeout: float | None = None
    """Seconds that one call may take."""
    description: str = ""
    """What the progress says once it is finished; the name unless given."""
    checkpoint: bool = True
    """Whether its result and the state after it are stored; else a resume computes it again."""


class StepExecutor:
    """Runs lists of steps for one handling."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def run(self, steps: Sequence[Step], initial_state: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Take the steps in their order, and tell of the progress after each.

        Args:
            steps: with names that differ.
            initial_state: what the shared state begins with: JSON data.

        Returns:
            The shared state after the last step, with the result of each step under its name.

        Raises:
            InvalidOperation: two steps have one name.
            TypeError: a result, or the state, is not JSON-able. Else what a step raised, once its retries are spent.
        """
        double = [name for name, count in Counter(step.name for step in steps).items() if count > 1]
        if double:
            raise InvalidOperation(f"A list of steps has {double[0]!r} twice: a resume could not tell them apart.")
        state: dict[str, Any] = copied(dict(initial_state or {}))
        for number, step in enumerate(steps, 1):
            state = await self._take(step, state)
            self._ctx.progress(number, len(steps), step.description or step.name)
        return state

    async def _take(self, step: Step, before: dict[str, Any]) -> dict[str, Any]:
        async def call() -> dict[str, Any]:
            state = copied(before)
            result = step.function(self._ctx, state)
            state[step.name] = await result if inspect.isawaitable(result) else result
            return state

        return await self._ctx.step(
            step.name,
            call,
            retries=step.retries,
            retry_delay=step.retry_delay,
            timeout=step.timeout,
            checkpoint=step.checkpoint,
        )
