"""Parts: what a runtime is made of, built from a topology's settings. The call sites of the rooms that make tools and models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from portico.kernel.protocols import ModelProvider, ToolSet
    from portico.kernel.supervisor import Supervisor
    from portico.llm.prices import Prices
    from portico.mcp_bridge.config import MCPServerConfig
    from portico.runs.store import Retention
    from portico.topology.model import ModelSettings, PriceSettings, RetentionSettings, ServerOfTools, StoreSettings, ToolsSettings

MCP_STATE: Final = "mcp"
"""Where in the data directory the bridge keeps what it knows of external servers: pins, tokens."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Fresh parts for one runtime."""

    supervisor: Supervisor
    """The root, with fresh children; the external MCP servers, if there are any, come first."""
    model_provider: ModelProvider | None
    """`self.llm`; None where no models are declared."""
    tool_registry: ToolSet | None
    """`self.tools`; None where it has no `mcp:`."""
    prices: Prices
    """What models cost."""

    @property
    def closing(self) -> list[Callable[[], Awaitable[None]]]:
        """What is to be called when the runtime has stopped: connections to model providers are closed."""
        aclose = getattr(self.model_provider, "aclose", None)
        return [] if aclose is None else [aclose]


def build_tools(
    settings: ToolsSettings | None, directory: Path | None, data_directory: Path | None = None
) -> tuple[Supervisor | None, ToolSet | None]:
    """The supervisor over the external MCP servers and the tools that they offer; nothing where the topology has no `mcp:`.

    A relative `cwd` is taken from the topology's directory, which is also the default. Pins and tokens go into the data directory.

    Raises:
        ConfigurationError: a server that cannot be.
    """
    if settings is None:
        return None, None
    from portico.mcp_bridge.calling.wiring import build_upstreams  # noqa: PLC0415  # half a second; see `server_config`

    return build_upstreams([server_config(server, directory, data_directory, settings.secret_key) for server in settings.servers])


def server_config(
    server: ServerOfTools, directory: Path | None, data_directory: Path | None, secret_key: str | None = None
) -> MCPServerConfig:
    """An external server as the bridge takes it. Raises `ConfigurationError` for one that cannot be."""
    # Half a second of imports, which a topology without `mcp:` need not pay.
    from portico.mcp_bridge.config import MCPServerConfig  # noqa: PLC0415

    said: dict[str, Any] = {key: value for key, value in server.model_dump(exclude_unset=True).items() if value is not None}
    said["transport"] = server.kind
    if server.kind == "stdio" and directory is not None:
        said["cwd"] = str((directory / (server.cwd or ".")).resolve())
    if server.auth is not None:
        said["auth"] = {key: value for key, value in said["auth"].items() if value is not None}
        said["secret_key"] = secret_key
    if data_directory is not None:
        said["state_dir"] = str(data_directory / MCP_STATE)
    return MCPServerConfig(**said)


def build_store(directory: Path | str, settings: StoreSettings | None = None) -> dict[str, Any]:
    """What a runtime is given so that its runs and states are stored in a directory: arguments of `Runtime`. Opens nothing."""
    from portico.runs.commit import StoreCommit  # noqa: PLC0415  # only where something is stored
    from portico.runs.store import Retention  # noqa: PLC0415
    from portico.stores.sqlite import SqliteStore  # noqa: PLC0415

    if settings is None:
        store, retention = SqliteStore(directory), Retention()
    else:
        store = SqliteStore(directory, synchronous=settings.synchronous)
        retention = retention_of(settings.retention)
    return {"commit": StoreCommit(store, retention), "state_store": store}


def retention_of(kept: RetentionSettings) -> Retention:
    """How long a store keeps what has ended."""
    from portico.runs.store import Retention  # noqa: PLC0415  # as above

    return Retention(runs_for=kept.runs, payloads_for=kept.payloads, usage_for=kept.usage, max_bytes=kept.size)


def build_models(models: ModelSettings | None) -> ModelProvider | None:
    """The provider behind `self.llm`; None where no models are declared. Raises `ConfigurationError` for one that cannot be."""
    if models is None:
        return None
    from portico.llm.providers import from_settings  # noqa: PLC0415  # only where models are declared

    return from_settings(models.providers, models.default)


def build_prices(settings: PriceSettings, directory: Path | None) -> Prices:
    """What models cost. Raises `ConfigurationError` for a price that is none, or a file that cannot be read."""
    from portico.llm.prices import Prices  # noqa: PLC0415  # as above

    prices = Prices(bundled=settings.bundled)
    if settings.file is not None:
        prices.load_pricing_from_file((directory or Path()).joinpath(settings.file))
    for model, price in settings.models.items():
        prices.register_pricing(model, **price)
    return prices
