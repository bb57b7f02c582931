"""Roster: the catalogue as the tree is now. Agents that come and go at run time come into it and leave it.

It looks at the tree when the kernel tells that a process came, went or became another class, and never in between.
Above: the dispatcher, and the faces that serve what it lists. Below: the kernel's events, and the catalogue.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from portico.errors import PorticoError
from portico.operations.catalogue import Catalogue, check_completers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from portico.kernel.bus import Subscription
    from portico.kernel.process import AgentProcess
    from portico.kernel.runtime import Runtime
    from portico.operations.operation import RouteSpec

logger = logging.getLogger("portico.runs")

NEWS: Final = "process.*"
"""The kernel events after which the tree may be another."""


class Roster:
    """What one runtime serves to the outside.

    Args:
        runtime: whose agents.
        routes: declared outside the classes: each with its agent and operation.
    """

    def __init__(self, runtime: Runtime, routes: Sequence[tuple[RouteSpec, str, str | None]] = ()) -> None:
        self.on_change: list[Callable[[], None]] = []
        """Called when the catalogue has become another. What one raises is logged and forgotten."""
        self._runtime = runtime
        self._routes = routes
        self._catalogue: Catalogue | None = None
        self._made_of: list[Any] = []
        self._following: Subscription | None = None

    @property
    def catalogue(self) -> Catalogue:
        """What is served now.

        Raises:
            UnknownAgent, UnknownOperation: a route that leads nowhere.
            InvalidOperation: what completes an argument is no operation of its agent.
        """
        if self._catalogue is None:
            agents = self._runtime.addressed_agents()
            for agent in agents:
                check_completers(agent)
            self._catalogue = Catalogue(agents, self._routes)
            self._made_of = _marks(agents)
        return self._catalogue

    def follow(self) -> None:
        """From now on, and until the runtime stops, keep up with the tree. Does nothing when it does so already.

        Raises:
            RuntimeNotStarted: before the runtime is started.
            UnknownAgent, UnknownOperation: a route that leads nowhere.
        """
        if self._following is None:
            # Which event it was does not matter, so a buffer of one is enough however many there are.
            self._following = self._runtime.subscribe(NEWS, buffer=1)
            self._runtime.router.start_task(self._keep_up(self._following), "roster")
            self.renew()

    async def _keep_up(self, news: Subscription) -> None:
        try:
            async for _ in news:
                self.renew()
        finally:
            news.close()
            self._following = None

    def renew(self) -> None:
        """Look at the tree, and make the catalogue anew where agents came, went or are others."""
        former = self.catalogue
        agents = self._runtime.addressed_agents()
        marks = _marks(agents)
        if marks == self._made_of:
            return
        self._made_of = marks
        try:
            self._catalogue = Catalogue(agents, self._routes, exposed_by_default=former.exposed_by_default)
        except PorticoError as error:
            logger.error("what is served stays as it was: %s", error)  # noqa: TRY400  # one line says it all
            return
        for listener in list(self.on_change):
            try:
                listener()
            except Exception:
                logger.exception("%r failed", listener)


def _marks(agents: Sequence[AgentProcess]) -> list[Any]:
    """What the catalogue takes from each agent. A restart changes none of it."""
    return [(agent.name, type(agent), agent.expose, agent.internal, agent.description, frozenset(agent.scopes)) for agent in agents]
