"""Loading: a topology with this program's environment and the gateway's own types. No web framework is needed for that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from portico.app.gateway import HTTPGateway
from portico.topology.topology import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from portico.topology.topology import Topology


def load_topology(source: Path | str | Mapping[str, Any]) -> Topology:
    """A checked topology, with this program's environment for `${NAME}` and the gateway's own types. Raises `TopologyError`."""
    return load(source, env=os.environ, node_types={"http_gateway": HTTPGateway})


def server_settings(topology: Topology) -> dict[str, Any]:
    """What a topology's `server:` says, as settings."""
    said = topology.server
    values: dict[str, Any] = {
        "host": said.host,
        "port": said.port,
        "allowed_hosts": tuple(said.allowed_hosts) if said.allowed_hosts is not None else None,
        "request_timeout": said.request_timeout,
        "body_limit": said.body_limit,
    }
    if said.docs is not None:
        values |= {"docs_enabled": said.docs.enabled, "docs_path": said.docs.path}
    return {name: value for name, value in values.items() if value is not None}
