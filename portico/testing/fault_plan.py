"""FaultPlan: what is to go wrong, and when. It goes wrong before the handler has seen the message, in the process's own task."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portico.kernel.messages import Message
    from portico.kernel.process import AgentProcess


class InjectedCrash(Exception):  # it names what happened, as the errors of the house do
    """What an agent crashes with when a plan says so."""


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong."""

    pattern: str
    """The names of the agents, as a glob."""
    left: int | None
    """How often it still happens; None for always."""
    rate: float
    """The part of the handlings that it happens to: 0.0 to 1.0."""
    error: Exception | None = None
    """What is raised; None for nothing."""
    seconds: float | None = 0.0
    """How long the handling is held up first, on the runtime's clock; None for ever."""


class FaultPlan:
    """Faults to be injected: `Runtime(…, faults=plan)`, or `TestRuntime.faults`.

    Agents are named by a glob. `times`: how many handlings it happens to, None for all. `rate`: which part of the handlings it
    happens to, drawn from a seeded generator, so that a failing test fails again.
    """

    def __init__(self, seed: int = 0) -> None:
        self._dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self._faults: list[Fault] = []

    def crash(self, agent: str, *, times: int | None = 1, rate: float = 1.0, error: Exception | None = None) -> None:
        """Let the handler crash, with `InjectedCrash` unless another error is given."""
        self._faults.append(Fault(agent, times, rate, error or InjectedCrash(f"injected into {agent!r}")))

    def hang(self, agent: str, *, times: int | None = 1, rate: float = 1.0) -> None:
        """Let the handling wait until it is cancelled: by its deadline, `handle_timeout`, or a stop."""
        self._faults.append(Fault(agent, times, rate, seconds=None))

    def slow(self, agent: str, seconds: float, *, times: int | None = 1, rate: float = 1.0) -> None:
        """Hold the handling up for so many seconds on the runtime's clock."""
        self._faults.append(Fault(agent, times, rate, seconds=seconds))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._faults.clear()

    async def before(self, process: AgentProcess, message: Message) -> None:
        """See `Faults.before`."""
        del message
        for fault in list(self._faults):
            if fault.left == 0 or not fnmatchcase(process.name, fault.pattern) or self._dice.random() >= fault.rate:
                continue
            if fault.left is not None:
                fault.left -= 1
            if fault.seconds is None:
                await asyncio.Event().wait()
            elif fault.seconds:
                await process.sleep(fault.seconds)
            if fault.error is not None:
                raise fault.error.with_traceback(None)  # one exception for all: without the tracebacks of earlier ones
