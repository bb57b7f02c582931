"""Steps: how one step of a handler is called: its arguments, its time limit, its retries.

Above: the runs, which store what came of it, and `context.py` outside any run. It stores nothing itself.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico.kernel.clock import sleep, timeout
from portico.kernel.words import not_negative

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.clock import Clock


@dataclass(frozen=True, slots=True)
class StepCall:
    """What the function of a step can be given: one call of it."""

    name: str
    """The step's name."""
    key: str
    """The same for every call of this very step of this run, also after a crash: for a service that recognises repeats."""
    attempt: int
    """0 for the first call, and one more for each retry."""


async def perform(
    clock: Clock,
    call: StepCall,
    function: Callable[..., Any],
    *,
    retries: int,
    retry_delay: float,
    limit: float | None,
    retrying: Callable[[int, Exception], object] | None = None,
) -> Any:
    """Call `function` until it returns, at most `1 + retries` times, `retry_delay` seconds apart, `limit` seconds each.

    `retrying` is told of the number of the next call, and of what was raised. A plain function must not block: it runs on the event
    loop.

    Raises:
        TimeoutError: the last call took too long; else what it raised.
        SettingOutOfRange: a negative number.
    """
    not_negative(f"step {call.name!r}", retries=retries, retry_delay=retry_delay, timeout=limit)
    takes_call = _takes_call(function)
    for attempt in range(retries + 1):
        try:
            async with timeout(clock, limit):
                this = StepCall(call.name, call.key, attempt)
                result = function(this) if takes_call else function()
                return await result if inspect.isawaitable(result) else result
        except Exception as error:
            if attempt == retries:
                raise
            if retrying is not None:
                retrying(attempt + 1, error)
            await sleep(clock, retry_delay)
    raise AssertionError  # the loop returns or raises


def _takes_call(function: Callable[..., Any]) -> bool:
    """Whether it has a parameter for the `StepCall`: one that it must be given."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(one.kind in positional and one.default is inspect.Parameter.empty for one in parameters)
