"""Loading: a topology with this program's environment and the gateway's own types. No web framework is needed for that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from portico.app.gateway import HTTPGateway
from portico.runs.commit import StoreCommit
from portico.topology.topology import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from portico.kernel.runtime import Runtime
    from portico.topology.topology import Topology


def load_topology(source: Path | str | Mapping[str, Any]) -> Topology:
    """A checked topology, with this program's environment for `${NAME}` and the gateway's own types. Raises `TopologyError`."""
    return load(source, env=os.environ, node_types={"http_gateway": HTTPGateway})


def server_settings(topology: Topology) -> dict[str, Any]:
    """What a topology's `server:` says, as settings."""
    said = topology.server
    values: dict[str, Any] = said.model_dump(exclude_none=True, exclude={"docs"})
    if said.docs is not None:
        values |= {"docs_enabled": said.docs.enabled, "docs_path": said.docs.path}
    audit = topology.settings.audit
    if audit is not None:
        values |= {"audit": audit.level, "audit_journal": audit.journal, "audit_sinks": audit.sinks}
        values |= {"audit_keep": audit.keep} if audit.keep is not None else {}
    return {name: tuple(cast("list[Any]", value)) if isinstance(value, list) else value for name, value in values.items()}


def data_directory_of(runtime: Runtime) -> str | None:
    """Where a runtime stores; None where it keeps everything in memory."""
    commit = runtime.services.commit
    return commit.store.where if isinstance(commit, StoreCommit) and commit.store.durable else None
