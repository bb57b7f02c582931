"""ToolNames: tool names as model APIs take them, and back.

Tools are addressed by any name (`mcp://files/read`); model APIs take `[A-Za-z0-9_-]{1,64}` only (`files__read`).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

LEGAL: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a model API takes as the name of a tool."""
_MOST: Final = 64
_DIGITS: Final = 8


def legal_name(name: str) -> str:
    """The name that a model is told: the name itself where it is legal, else the nearest legal one, of at most 64 characters."""
    if LEGAL.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name.removeprefix("mcp://").replace("/", "__"))
    return plain if 0 < len(plain) <= _MOST else _marked(plain, name)


def _marked(plain: str, name: str) -> str:
    """Cut short, with a mark of the whole name: it stays the same whatever other tools there are."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{plain[: _MOST - _DIGITS - 1]}_{digest}"


class ToolNames:
    """The tools that one conversation offers, under names that a model API takes. No two of them share a name."""

    def __init__(self, names: Iterable[str]) -> None:
        unique = dict.fromkeys(names)
        self._to_model = {name: name for name in unique if LEGAL.fullmatch(name)}
        self._from_model = dict(self._to_model)
        for name in unique:
            if name not in self._to_model:
                offered = legal_name(name)
                if offered in self._from_model:
                    offered = _marked(offered, name)
                self._to_model[name] = offered
                self._from_model[offered] = name

    def to_model(self, name: str) -> str:
        """The name under which the model knows this tool. Raises `KeyError` for a tool that is not offered."""
        return self._to_model[name]

    def from_model(self, offered: str) -> str:
        """The tool's own name; the given name where no such tool was offered: models invent names."""
        return self._from_model.get(offered, offered)
