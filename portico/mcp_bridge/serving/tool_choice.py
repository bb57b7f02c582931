"""ToolChoice: which tools are served, and under which names. What is not chosen cannot be called either.

Above: `served.py`. Below: nothing: names in, names out. What a caller's scopes allow is not decided here.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, TypeVar

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

logger = logging.getLogger("portico.mcp")

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What model APIs take as the name of a tool."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools one MCP server has."""

    allow: Sequence[str] = ()
    """Globs of the names that are served; none: all."""
    deny: Sequence[str] = ()
    """Globs of the names that are not, also where `allow` has them."""
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    """Other names for some. `allow` and `deny` mean the names that tools have without this."""

    def chosen(self, tools: Mapping[str, T]) -> dict[str, T]:
        """What is served of these, in the order of names.

        A tool that came at run time and would have the name that another was given is not served.
        """
        kept = {name: tool for name, tool in tools.items() if self._serves(name)}
        given = {self.rename[name]: tool for name, tool in kept.items() if name in self.rename}
        for name, tool in kept.items():
            if name in self.rename:
                continue
            if name in given:
                logger.warning("the tool %r is not served: mcp_rename has given its name to another", name)
                continue
            given[name] = tool
        return dict(sorted(given.items()))

    def check(self, tools: Iterable[str]) -> None:
        """Raises `ConfigurationError` for a name in `rename` that there is not, cannot be, or would be there twice."""
        known = list(tools)
        kept = {name for name in known if self._serves(name)}
        taken = {name: name for name in kept if name not in self.rename}
        for name, other in self.rename.items():
            if name not in known:
                raise ConfigurationError(f"mcp_rename has {name!r}: there is no such tool.{did_you_mean(nearest(name, known))}")
            if not _NAME.fullmatch(other):
                raise ConfigurationError(
                    f"mcp_rename gives {name!r} the name {other!r}: it must be 1 to 64 letters, digits, '_' or '-'."
                )
            if name not in kept:
                continue
            if other in taken:
                raise ConfigurationError(
                    f"mcp_rename gives {name!r} the name {other!r}, which is that of {taken[other]!r}: each needs its own."
                )
            taken[other] = name

    def _serves(self, name: str) -> bool:
        return (not self.allow or _matches(name, self.allow)) and not _matches(name, self.deny)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
