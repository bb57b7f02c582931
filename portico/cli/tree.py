"""`portico tree`: the supervision tree of a topology, without starting it."""

from __future__ import annotations

from portico.cli.arguments import DEFAULT_TOPOLOGY, TopologyArgument


def tree(topology: TopologyArgument = DEFAULT_TOPOLOGY) -> None:
    """Print the supervision tree of a topology."""
    from portico.app.loading import load_topology
    from portico.topology.runtime import Runtime

    Runtime.from_topology(load_topology(topology)).print_tree()
