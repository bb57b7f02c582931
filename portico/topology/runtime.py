"""Runtime: the kernel's, with `from_config`. What users import as `portico.Runtime`.

It reads YAML and checks it only inside `from_config`: a program that builds its tree by hand loads neither pydantic nor YAML.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from portico.kernel import runtime as kernel
from portico.topology.late_tools import LateTools

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from portico.kernel.process import AgentProcess
    from portico.topology.topology import Topology


class Runtime(kernel.Runtime):
    """One supervised tree: built by hand, with the arguments of the kernel's `Runtime`, or from a topology.

    Where it is given no prices, those of genai-prices count. Where it is given no tools, its agents can bring some along all the
    same: `await self.connect_mcp(…)`.

    Args:
        args: as of the kernel's `Runtime`.
        data: a directory in which runs, states and the records of `self.store` are stored, so that they survive the program. One
            program at a time can use it. None: they are kept in memory.
        settings: as of the kernel's `Runtime`.
    """

    def __init__(self, *args: Any, data: Path | str | None = None, **settings: Any) -> None:
        if data is not None:
            from portico.topology.parts import build_store  # noqa: PLC0415  # only where something is stored

            settings = {**build_store(data), **settings}
        super().__init__(*args, **settings)
        if self.services.prices is None:
            from portico.llm.prices import Prices  # noqa: PLC0415  # who only imports a name need not wait for it

            self.services.prices = Prices()
        if self.services.tools is None:
            self.services.tools = LateTools(self)

    @classmethod
    def from_config(
        cls,
        path: Path | str | Mapping[str, Any],
        agent_classes: Mapping[str, type[AgentProcess]] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> Self:
        """A runtime as a topology describes it; not started.

        Args:
            path: of a YAML file, or its content as a mapping. Its `routes` and `server` are for the gateway, not for a runtime.
            agent_classes: classes under the names that the topology uses as types.
            env: the variables for `${NAME}`; those of this program unless given.
            settings: the other arguments of `Runtime`.

        Raises:
            TopologyError: with every mistake.
        """
        from portico.topology.topology import load  # noqa: PLC0415  # `import portico` loads neither pydantic nor YAML

        return cls.from_topology(load(path, env=os.environ if env is None else env, agent_classes=agent_classes), **settings)

    @classmethod
    def from_topology(cls, topology: Topology, *, data: Path | str | None = None, **settings: Any) -> Self:
        """The same from a topology that was loaded. What the topology's parts hold open is closed when the runtime stops.

        `data`: the directory to store in, instead of what the topology's `store:` says.

        Raises:
            ConfigurationError: a provider or a server that cannot be made.
        """
        parts = topology.build()
        directory = data or topology.data_directory
        if directory is not None:
            from portico.topology.parts import build_store  # noqa: PLC0415  # only where something is stored

            settings = {**build_store(directory, topology.store), **settings}
        given: dict[str, Any] = {
            "model_provider": parts.model_provider,
            "tool_registry": parts.tool_registry,
            "closing": parts.closing,
            "prices": parts.prices,
        }
        return cls(parts.supervisor, **{**given, **settings})
