"""Environment: what a stdio server inherits of ours: an allow-list, and what its configuration adds. Our keys and tokens stay here.

Above: `child.py`. It is one of the few places that look at the environment: a child's is made of ours.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.mcp_bridge.config import MCPServerConfig

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")
"""What every server inherits: enough to find programs, and nobody's secret."""
_FUNCTION: Final = "()"
"""How the value of an exported shell function begins; a shell that reads one runs it."""


def environment_of(config: MCPServerConfig, ours: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a stdio server. `ours`: in place of this program's."""
    if ours is None:
        ours = os.environ
    names = (*INHERITED, *config.inherit_env)
    inherited = {name: ours[name] for name in names if name in ours and not ours[name].startswith(_FUNCTION)}
    return inherited | dict(config.env)
