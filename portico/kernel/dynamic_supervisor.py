"""DynamicSupervisor: children that are added and removed at run time, all restarted one for one.

Static and dynamic supervisors are two classes, as in Elixir. The machinery is the same: `supervision.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from portico.errors import DuplicateName, LifecycleError, SpawnError, SpawnLimitReached, StartError
from portico.kernel.child import Then
from portico.kernel.exits import described
from portico.kernel.process import Restart
from portico.kernel.supervisor import Supervisor
from portico.kernel.words import not_negative, word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.dynamic_supervision import DynamicSupervision
    from portico.kernel.process import AgentProcess
    from portico.kernel.router import Router
    from portico.kernel.supervision import Ear, Supervision


class Drain(StrEnum):
    """What a child may finish before it ends."""

    CURRENT = "current"
    """The message in hand."""
    ALL = "all"
    """What waits as well."""


class DynamicSupervisor(Supervisor):
    """A supervisor that begins without children.

    Args:
        name: its identity in the runtime.
        max_children: how many may live at once; None for no bound.
        max_total_spawns: how many may be spawned in one life of it; None for no bound. A spawn that fails does not count.
        restart: how the children are restarted: `transient` unless said otherwise.
        max_restarts, restart_window, backoff, backoff_base, backoff_max: as of `Supervisor`.
    """

    tag = "dyn"
    dynamic = True

    def __init__(  # noqa: PLR0917  # the seed's order
        self,
        name: str,
        max_children: int | None = None,
        max_total_spawns: int | None = None,
        restart: str = "transient",
        max_restarts: int = 3,
        restart_window: float = 60.0,
        backoff: str = "CONSTANT",
        backoff_base: float = 0.1,
        backoff_max: float = 60.0,
    ) -> None:
        super().__init__(
            name,
            max_restarts=max_restarts,
            restart_window=restart_window,
            backoff=backoff,
            backoff_base=backoff_base,
            backoff_max=backoff_max,
        )
        not_negative(f"supervisor {name!r}", max_children=max_children, max_total_spawns=max_total_spawns)
        self.max_children = max_children
        self.max_total_spawns = max_total_spawns
        self.child_restart = word(Restart, restart, f"The restart of the children of {name!r}")
        self.total_spawns = 0

    async def on_spawn_requested(self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any]) -> bool:
        """Whether to spawn; override to refuse."""
        del agent_class, name, config
        return True

    async def spawn(
        self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any] | None = None, *, spawner: str = ""
    ) -> str:
        """Start a child `agent_class(name, **config)`. Returns its name. `spawner`: the process that hears of its end.

        Raises:
            SpawnError: refused, over a limit, or it did not start.
            DuplicateName: the name is taken.
        """
        settings = dict(config or {})
        if not await self.on_spawn_requested(agent_class, name, settings):
            raise SpawnError(f"Supervisor {self.name!r} refused to spawn {name!r}.")
        supervision = self._running()
        self._check_limits(supervision, name)
        if supervision.router.knows(name):
            raise DuplicateName(name)
        process = self._built(agent_class, name, settings)
        self.total_spawns += 1
        try:
            await supervision.add(process, spawner)
        except StartError as error:
            self.total_spawns -= 1  # it never was: its place is free again
            raise SpawnError(f"{name!r} was not spawned: {error.reason}") from error
        return name

    def _built(self, agent_class: type[AgentProcess], name: str, settings: Mapping[str, Any]) -> AgentProcess:
        try:
            return agent_class(name, **settings).adjust(config=settings, restart=self.child_restart)
        except Exception as error:
            raise SpawnError(f"{name!r} was not spawned: {described(error)}") from error

    async def despawn(self, name: str) -> None:
        """End a child now, without letting it finish. Raises `LifecycleError` where there is none of that name."""
        await self._running().part(name, Then.FORGET, None, drain=None)

    async def stop(self, name: str, drain: str = "current", timeout: float = 30.0) -> None:
        """End a child after the message in hand (`current`) or after all that wait (`all`); cancel it after `timeout` seconds.

        The supervisor goes on meanwhile. With `all` it takes no new message while it works off the others.

        Raises:
            LifecycleError: there is none of that name.
            UnknownWord: another drain.
        """
        await self._running().part(name, Then.FORGET, timeout, drain=word(Drain, drain, f"The drain of {name!r}").value)

    def supervise(self, router: Router, reports_to: Ear, parent: Supervision | None = None) -> DynamicSupervision:
        """See `Supervisor.supervise`."""
        from portico.kernel.dynamic_supervision import DynamicSupervision  # noqa: PLC0415  # as in `Supervisor.supervise`

        return DynamicSupervision(self, router, reports_to, parent)

    def _check_limits(self, supervision: Supervision, name: str) -> None:
        if self.max_children is not None and len(supervision.children) >= self.max_children:
            raise SpawnLimitReached(self.name, name, "max_children", self.max_children)
        if self.max_total_spawns is not None and self.total_spawns >= self.max_total_spawns:
            raise SpawnLimitReached(self.name, name, "max_total_spawns", self.max_total_spawns)

    def _running(self) -> DynamicSupervision:
        supervision = self.supervision
        if supervision is None or supervision.ended:
            raise LifecycleError(f"Supervisor {self.name!r} is not running.")
        return cast("DynamicSupervision", supervision)
