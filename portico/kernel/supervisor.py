"""Supervisor: what a user writes. Static children, a strategy, a restart intensity, backoff.

The machinery that runs it is in `supervision.py`. Children that are added at run time belong to `DynamicSupervisor`.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from portico.kernel.process import AgentProcess, Restart
from portico.kernel.recipe import Recipe
from portico.kernel.words import not_negative, word

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear, Supervision


class Strategy(StrEnum):
    """Which children are restarted when one ends; OTP's words."""

    ONE_FOR_ONE = "one_for_one"
    """Only that one."""
    ONE_FOR_ALL = "one_for_all"
    """All of them."""
    REST_FOR_ONE = "rest_for_one"
    """That one and those after it in the list."""


class Backoff(StrEnum):
    """How the wait before a restart grows with consecutive crashes."""

    CONSTANT = "constant"
    """Always `backoff_base`."""
    LINEAR = "linear"
    """`backoff_base` times the number of crashes."""
    EXPONENTIAL = "exponential"
    """Doubles with each crash, of which a random part between a half and the whole is waited."""


class Supervisor:
    """Starts its children in order, restarts those that end, stops them in reverse order.

    Args:
        name: its identity in the runtime.
        children: processes and supervisors, in start order.
        strategy: `one_for_one`, `one_for_all` or `rest_for_one`; upper case is accepted.
        max_restarts: how many counted restarts may happen within `restart_window`; one more, and the supervisor fails upward.
            A message is handled at most `1 + max_restarts` times.
        restart_window: seconds; sliding, not reset by successes.
        backoff: `constant`, `linear` or `exponential`; upper case is accepted.
        backoff_base: seconds before the first restart.
        backoff_max: seconds that no wait exceeds.
        restart: when its own supervisor restarts it: `permanent`, `transient` or `temporary`.

    Raises:
        ConfigurationError: an unknown strategy or backoff, a negative number.
    """

    tag: ClassVar[str] = "sup"
    """What `print_tree` shows in brackets before its name."""
    dynamic: ClassVar[bool] = False
    """True where children come at run time: then one that ended for good is forgotten, as are all at the end of its life."""

    spent: bool = False
    """True once it was started: the next life needs a fresh instance."""
    recipe: Recipe
    """How it was made; shared by all lives of its place in the tree."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments: a restart builds a fresh instance from them."""
        self = super().__new__(cls)
        self.recipe = Recipe(cls, args, kwargs)
        return self

    def __init__(  # noqa: PLR0917  # the seed's order
        self,
        name: str,
        children: Sequence[AgentProcess | Supervisor] | None = None,
        strategy: str = "ONE_FOR_ONE",
        max_restarts: int = 3,
        restart_window: float = 60.0,
        backoff: str = "CONSTANT",
        backoff_base: float = 0.1,
        backoff_max: float = 60.0,
        *,
        restart: str | Restart = Restart.PERMANENT,
    ) -> None:
        not_negative(
            f"supervisor {name!r}",
            max_restarts=max_restarts,
            restart_window=restart_window,
            backoff_base=backoff_base,
            backoff_max=backoff_max,
        )
        self.name = name
        self.children: list[AgentProcess | Supervisor] = list(children or [])
        self.strategy = word(Strategy, strategy, f"The strategy of supervisor {name!r}")
        self.max_restarts = max_restarts
        self.restart_window = restart_window
        self.backoff = word(Backoff, backoff, f"The backoff of supervisor {name!r}")
        self.backoff_base = backoff_base
        self.backoff_max = backoff_max
        self.restart = word(Restart, restart, f"The restart of supervisor {name!r}")
        self.supervision: Supervision | None = None

    def fresh(self) -> Self:
        """A new instance from the same constructor arguments."""
        return self.recipe.make()

    def supervise(self, router: Router, reports_to: Ear, parent: Supervision | None = None) -> Supervision:
        """Make one life of this supervisor. Called by the one above, or by the runtime."""
        from portico.kernel.supervision import Supervision  # noqa: PLC0415  # it knows this file; at run time they know each other

        return Supervision(self, router, reports_to, parent)

    def delay(self, crashes: int) -> float:
        """Seconds to wait before the restart after so many consecutive crashes (1 for the first)."""
        match self.backoff:
            case Backoff.CONSTANT:
                wait = self.backoff_base
            case Backoff.LINEAR:
                wait = self.backoff_base * crashes
            case Backoff.EXPONENTIAL:
                wait = self.backoff_base * 2.0 ** min(crashes - 1, 64)
        wait = min(wait, self.backoff_max)
        return wait * random.uniform(0.5, 1.0) if self.backoff is Backoff.EXPONENTIAL else wait  # noqa: S311  # jitter, no secret

    def which_children(self) -> list[AgentProcess | Supervisor]:
        """The children as they are now: the present incarnations once started, in start order."""
        if self.supervision is not None:
            return self.supervision.present()
        return list(self.children)

    def walk(self) -> Iterator[AgentProcess | Supervisor]:
        """Itself and everything below it, top down, in start order."""
        yield self
        for child in self.which_children():
            if isinstance(child, Supervisor):
                yield from child.walk()
            else:
                yield child

    def all_agents(self) -> list[AgentProcess]:
        """Every process below it."""
        return [node for node in self.walk() if isinstance(node, AgentProcess)]

    def all_supervisors(self) -> list[Supervisor]:
        """Itself and every supervisor below it."""
        below = [] if self.dynamic else self.which_children()  # children that come at run time are processes
        return [self, *(node for child in below if isinstance(child, Supervisor) for node in child.all_supervisors())]

    def addressed(self) -> Iterator[AgentProcess]:
        """Every process below it that callers address: one that stands for many, where many stand behind one name."""
        for child in self.which_children():
            if isinstance(child, Supervisor):
                yield from child.addressed()
            else:
                yield child
