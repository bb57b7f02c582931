"""Parts: what a runtime is made of, built from a topology's settings. The call sites of the rooms that make tools and models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from portico.kernel.protocols import ModelProvider, ToolSet
    from portico.kernel.supervisor import Supervisor
    from portico.topology.model import ModelSettings, ServerOfTools, StoreSettings, ToolsSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """Fresh parts for one runtime."""

    supervisor: Supervisor
    """The root, with fresh children; the external MCP servers, if there are any, come first."""
    model_provider: ModelProvider | None
    """`self.llm`; None where no models are declared."""
    tool_registry: ToolSet | None
    """`self.tools`; None where it has no `mcp:`."""

    @property
    def closing(self) -> list[Callable[[], Awaitable[None]]]:
        """What is to be called when the runtime has stopped: connections to model providers are closed."""
        aclose = getattr(self.model_provider, "aclose", None)
        return [] if aclose is None else [aclose]


def build_tools(settings: ToolsSettings | None, directory: Path | None) -> tuple[Supervisor | None, ToolSet | None]:
    """The supervisor over the external MCP servers and the tools that they offer; nothing where the topology has no `mcp:`.

    A relative `cwd` is taken from the topology's directory, which is also the default.

    Raises:
        ConfigurationError: a server that cannot be.
    """
    if settings is None:
        return None, None
    # Half a second of imports, which a topology without `mcp:` need not pay.
    from portico.mcp_bridge.calling.wiring import build_upstreams  # noqa: PLC0415
    from portico.mcp_bridge.config import MCPServerConfig  # noqa: PLC0415

    def config(server: ServerOfTools) -> MCPServerConfig:
        said: dict[str, Any] = {key: value for key, value in server.model_dump(exclude_unset=True).items() if value is not None}
        said["transport"] = server.kind
        if server.kind == "stdio" and directory is not None:
            said["cwd"] = str((directory / (server.cwd or ".")).resolve())
        return MCPServerConfig(**said)

    return build_upstreams([config(server) for server in settings.servers])


def build_store(directory: Path | str, settings: StoreSettings | None = None) -> dict[str, Any]:
    """What a runtime is given so that its runs and states are stored in a directory: arguments of `Runtime`. Opens nothing."""
    from portico.runs.commit import StoreCommit  # noqa: PLC0415  # only where something is stored
    from portico.runs.store import Retention  # noqa: PLC0415
    from portico.stores.sqlite import SqliteStore  # noqa: PLC0415

    if settings is None:
        store, retention = SqliteStore(directory), Retention()
    else:
        kept = settings.retention
        store = SqliteStore(directory, synchronous=settings.synchronous)
        retention = Retention(runs_for=kept.runs, payloads_for=kept.payloads, max_bytes=kept.size)
    return {"commit": StoreCommit(store, retention), "state_store": store}


def build_models(models: ModelSettings | None) -> ModelProvider | None:
    """The provider behind `self.llm`; None where no models are declared. Raises `ConfigurationError` for one that cannot be."""
    if models is None:
        return None
    from portico.llm.providers import from_settings  # noqa: PLC0415  # only where models are declared

    return from_settings(models.providers, models.default)
