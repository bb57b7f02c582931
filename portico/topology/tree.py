"""Tree: the processes of a topology as specifications, from which fresh processes are built as often as needed.

Below: the kernel's classes. Above: `checks.py`, which makes the specifications, and `topology.py`, which keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from portico.kernel.keyed import Keyed
from portico.kernel.pool import Pool
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.topology.classes import keywords, parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from portico.topology.classes import Maker
    from portico.topology.mistakes import Location


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """One process, or one supervisor whose children come at run time."""

    name: str
    """Its identity."""
    maker: Maker
    """Its class, or another function that makes it."""
    config: Mapping[str, Any]
    """What `config:` says: the constructor's keyword arguments."""
    options: Mapping[str, Any]
    """What every process can be told: `mailbox_size`, `expose` …; only what the topology says."""
    many: Mapping[str, Any]
    """How many processes stand behind the name: `pool`, or `per_key` and what belongs to it. Empty for one."""
    location: Location
    """Where it stands in the document."""

    def build(self, **intensity: Any) -> AgentProcess | Supervisor:
        """A fresh one. `intensity`: how its supervisor restarts, which holds for the members of a pool or a keyed agent too.

        Raises whatever its constructor raises.
        """
        taken = parameters(self.maker).names
        handed_on = {key: value for key, value in self.options.items() if key in taken}
        arguments = {**keywords(self.maker, self.config), **handed_on}
        adjusted = {"config": self.config, **{key: value for key, value in self.options.items() if key not in taken}}
        if self.many:
            maker = cast("Callable[..., AgentProcess]", self.maker)
            if "pool" in self.many:
                return Pool(maker, self.name, self.many["pool"], config=arguments, adjusted=adjusted, **intensity)
            return Keyed(maker, self.name, **self.many, config=arguments, adjusted=adjusted, **intensity)
        process = self.maker(self.name, **arguments)
        if isinstance(process, AgentProcess):
            process.adjust(**adjusted)
        return process


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """One supervisor and what stands below it."""

    name: str
    """Its identity."""
    options: Mapping[str, Any]
    """Its constructor's other arguments; only what the topology says."""
    children: tuple[AgentSpec | SupervisorSpec, ...]
    """What it starts, in order."""

    def build(self, *, first: tuple[Supervisor, ...] = ()) -> Supervisor:
        """A fresh one with fresh children; `first` are started before them."""
        intensity = {key: value for key, value in self.options.items() if key not in {"strategy", "restart"}}
        children = [child.build(**intensity) if isinstance(child, AgentSpec) else child.build() for child in self.children]
        return Supervisor(self.name, [*first, *children], **self.options)

    def agents(self) -> Iterator[AgentSpec]:
        """Every process below it, in start order."""
        for child in self.children:
            if isinstance(child, SupervisorSpec):
                yield from child.agents()
            else:
                yield child
