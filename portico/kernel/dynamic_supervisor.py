"""DynamicSupervisor: children that are added and removed at run time, all restarted one for one.

Static and dynamic supervisors are two classes, as in Elixir. The machinery is the same: `supervision.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from portico.errors import DuplicateName, LifecycleError, SpawnError, StartError
from portico.kernel.process import Restart
from portico.kernel.supervisor import Supervisor
from portico.kernel.words import word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.process import AgentProcess
    from portico.kernel.supervision import Supervision


class DynamicSupervisor(Supervisor):
    """A supervisor that begins without children.

    Args:
        name: its identity in the runtime.
        max_children: how many may live at once; None for no bound.
        max_total_spawns: how many may ever be spawned; None for no bound.
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
        self.max_children = max_children
        self.max_total_spawns = max_total_spawns
        self.child_restart = word(Restart, restart, f"The restart of the children of {name!r}")
        self.total_spawns = 0

    async def on_spawn_requested(self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any]) -> bool:
        """Whether to spawn; override to refuse."""
        del agent_class, name, config
        return True

    async def spawn(self, agent_class: type[AgentProcess], name: str, config: Mapping[str, Any] | None = None) -> str:
        """Start a child `agent_class(name, **config)`. Returns its name.

        Raises:
            SpawnError: refused, over a limit, or it did not start.
            DuplicateName: the name is taken.
        """
        settings = dict(config or {})
        if not await self.on_spawn_requested(agent_class, name, settings):
            raise SpawnError(f"Supervisor {self.name!r} refused to spawn {name!r}.")

        async def add() -> None:
            supervision = self._running()
            self._check_limits(name)
            if supervision.knows(name):
                raise DuplicateName(name)
            await supervision.add(self._built(agent_class, name, settings))
            self.total_spawns += 1

        try:
            await self._running().request(add)
        except StartError as error:
            raise SpawnError(f"{name!r} was not spawned: {error.reason}") from error
        return name

    def _built(self, agent_class: type[AgentProcess], name: str, settings: Mapping[str, Any]) -> AgentProcess:
        try:
            return agent_class(name, **settings).adjust(config=settings, restart=self.child_restart)
        except Exception as error:
            raise SpawnError(f"{name!r} was not spawned: {type(error).__name__}: {error}") from error

    async def despawn(self, name: str) -> None:
        """End a child now, without letting it finish. Raises `LifecycleError` where there is none of that name."""
        await self._running().request(lambda: self._running().remove(name, at_once=True))

    async def stop(self, name: str) -> None:
        """End a child after the message in hand. Raises `LifecycleError` where there is none of that name."""
        await self._running().request(lambda: self._running().remove(name, at_once=False))

    def _check_limits(self, name: str) -> None:
        if self.max_children is not None and len(self._running().children) >= self.max_children:
            raise SpawnError(f"Supervisor {self.name!r} has {self.max_children} children (max_children): {name!r} was not spawned.")
        if self.max_total_spawns is not None and self.total_spawns >= self.max_total_spawns:
            raise SpawnError(f"Supervisor {self.name!r} has spawned {self.max_total_spawns} (max_total_spawns): {name!r} was not.")

    def _running(self) -> Supervision:
        if self.supervision is None:
            raise LifecycleError(f"Supervisor {self.name!r} is not running.")
        return self.supervision
