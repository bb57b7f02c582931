"""Mistakes: what is wrong with one topology, collected so that all of it is told at once.

Every other file of this room reports here, by location (the keys and indexes that lead to a value); the reader of the file
tells on which line each location stands. Nothing here knows YAML, the schema or classes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

from portico.errors import TopologyError, did_you_mean
from portico.errors import nearest as nearest_names

if TYPE_CHECKING:
    from collections.abc import Iterable

Location = tuple[str | int, ...]
"""Keys and indexes from the top of the document to a value."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_LONGEST_VALUE = 60


def dotted(location: Location) -> str:
    """A location as people write it: `supervision.children[0].agent`."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def shown(value: Any) -> str:
    """A value as a mistake quotes it: short, on one line, and never what came out of an environment variable."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = getattr(value, "written", None) or repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def nearest(name: str, names: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the most alike of the names; empty where none is."""
    by_lower = {known.lower(): known for known in names}
    return did_you_mean([by_lower[match] for match in nearest_names(name.lower(), by_lower, most=1)])


class Mistakes:
    """The collector. One mistake per location, and none inside of it: those would only be consequences of the first."""

    def __init__(self, source: str) -> None:
        """Make an empty collection for the document that people know as `source`."""
        self.source = source
        self.lines: dict[Location, int] = {}
        self._found: dict[Location, tuple[int, str]] = {}

    def add(self, location: Location, sentence: str, *, line: int | None = None) -> None:
        """Note that what stands at `location` is wrong. `line` overrides the line where the location begins."""
        if any(location[:depth] in self._found for depth in range(1, len(location) + 1)) or () in self._found:
            return
        line = line or self._line(location)
        place = f"{self.source}:{line}" if line else self.source
        path = dotted(location)
        self._found[location] = (line, f"{place}: {path}: {sentence}" if path else f"{place}: {sentence}")

    def told(self, location: Location) -> bool:
        """Whether something is wrong at this very location."""
        return location in self._found

    def stop(self, sentence: str, *, line: int = 0, column: int = 0) -> NoReturn:
        """Give up: the document cannot be read any further.

        Raises:
            TopologyError: always.
        """
        place = ":".join(str(part) for part in (self.source, line, column) if part)
        self._found[("", len(self._found))] = (line, f"{place}: {sentence}")
        self.check()
        raise AssertionError

    def check(self) -> None:
        """Raise what was found, in the order of the lines.

        Raises:
            TopologyError: there is at least one mistake.
        """
        if self._found:
            raise TopologyError(text for _, text in sorted(self._found.values(), key=lambda mistake: mistake[0]))

    def _line(self, location: Location) -> int:
        """The line of the location, or of the nearest thing around it; 0 where the source has no lines."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 0)
