"""ComponentSet: the parts that a runtime is wired from, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.kernel.clock import SystemClock
from portico.kernel.codec import JsonCodec
from portico.kernel.memory import MemoryCommit, MemoryStore

if TYPE_CHECKING:
    from portico.kernel.clock import Clock
    from portico.kernel.protocols import Codec, Commit, ModelProvider, Observer, StateStore, ToolSet

TRANSPORTS = ("in_process",)
"""The transports that there are."""


@dataclass(slots=True)
class ComponentSet:
    """Everything that `Runtime` takes besides its tree."""

    transport: str = "in_process"
    """How messages travel."""
    serializer: Codec = field(default_factory=JsonCodec)
    """How payloads become bytes."""
    tracer: Observer | None = None
    """Who sees spans and events."""
    store: StateStore = field(default_factory=MemoryStore)
    """Records of the agents' own: `self.store`."""
    commit: Commit = field(default_factory=MemoryCommit)
    """What makes a handled message final, and keeps `self.state`."""
    model_provider: ModelProvider | None = None
    """`self.llm`."""
    tool_registry: ToolSet | None = None
    """`self.tools`."""
    clock: Clock = field(default_factory=SystemClock)
    """Where the kernel gets its time."""

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            hint = did_you_mean(nearest(self.transport, TRANSPORTS))
            raise ConfigurationError(f"There is no transport {self.transport!r}. Known: {', '.join(TRANSPORTS)}.{hint}")


def build_component_set(
    transport_type: str = "in_process",
    *,
    serializer: Codec | None = None,
    tracer: Observer | None = None,
    store: StateStore | None = None,
    model_provider: ModelProvider | None = None,
    tool_registry: ToolSet | None = None,
) -> ComponentSet:
    """A set with defaults for everything that is not given. Raises `ConfigurationError` for an unknown transport."""
    return ComponentSet(
        transport=transport_type,
        serializer=serializer or JsonCodec(),
        tracer=tracer,
        store=store or MemoryStore(),
        model_provider=model_provider,
        tool_registry=tool_registry,
    )
