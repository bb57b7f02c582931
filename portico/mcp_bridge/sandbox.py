"""Sandbox: what a stdio server in a sandbox may have beyond the least, as its configuration says it. Starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a server may have beyond the least."""

    network: bool = False
    """Whether it reaches the network, and what listens on this machine."""
    read: Sequence[str] = ()
    """Paths that it may read besides; relative ones count from its directory."""
    write: Sequence[str] = ()
    """Paths that it may write."""


def sandbox_of(whose: str, said: Any) -> Sandbox | None:
    """A setting `sandbox:` as it is meant; None for no sandbox. Raises `ConfigurationError`."""
    if said is None or said is False:
        return None
    if said is True:
        return Sandbox()
    if not isinstance(said, dict):
        raise ConfigurationError(f"{whose} has the sandbox {said!r}: it is true, or a mapping of 'network', 'read' and 'write'.")
    given = cast("dict[str, Any]", said)
    for key in given:
        if key not in Sandbox.__slots__:
            hint = did_you_mean(nearest(key, Sandbox.__slots__)) or " Known: network, read, write."
            raise ConfigurationError(f"{whose} has a sandbox with {key!r}, which there is not.{hint}")
    if not isinstance(given.get("network", False), bool):
        raise ConfigurationError(f"{whose} has a sandbox whose 'network' is {given['network']!r}: it is true or false.")
    return Sandbox(given.get("network", False), _paths(whose, given, "read"), _paths(whose, given, "write"))


def _paths(whose: str, given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    paths: Any = given.get(key) or ()
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) and path for path in cast("list[Any]", paths)):
        raise ConfigurationError(f"{whose} has a sandbox whose {key!r} is {paths!r}: it is a list of paths.")
    return tuple(cast("list[str]", paths))
