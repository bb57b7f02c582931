"""Admission: which of the tools that a server lists there are for us, under which names, and why the others are not.

A listing is a stranger's text that models read: so it is bounded, its names are judged, and where tools are pinned, one that has
changed is refused until somebody approves it. Every refusal is a line in the log. Above: `connection.py`, with each listing.
"""

from __future__ import annotations

import logging
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, cast

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.mcp_bridge.calling.fingerprint import definition_of, fingerprint
from portico.mcp_bridge.calling.lookalikes import has_invisible, skeleton
from portico.mcp_bridge.calling.pin_file import PinFile, Pins
from portico.mcp_bridge.calling.remote_tool import RemoteTool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mcp.types import Tool

    from portico.mcp_bridge.config import MCPServerConfig

MOST_TOOLS: Final = 2000
"""Tools of one server; what is listed beyond is refused."""
LONGEST_NAME: Final = 128
"""Characters of a tool's name (SEP-986)."""
LONGEST_DESCRIPTION: Final = 32 * 1024
"""Characters that a tool says of itself, its title with it: a model reads all of it, every time."""
LARGEST_SCHEMA: Final = 256 * 1024
"""Characters of a schema, printed."""
DEEPEST_SCHEMA: Final = 64
"""Levels of a schema."""


class Admission:
    """Judges the listings of one server, one after the other."""

    def __init__(self, config: MCPServerConfig) -> None:
        self._config = config
        self._log = logging.getLogger(f"portico.mcp.{config.name}")
        self._file = PinFile(config.state_dir, config.name) if config.pin and config.state_dir is not None else None
        self._stamp: tuple[int, int] | None = None
        self._told: set[str] = set()
        self.neighbours: Callable[[], Iterable[str]] = tuple[str]
        """The addresses of the other servers' tools."""
        self.refused: dict[str, str] = {}
        """Why a tool of the last listing is none, by the name that it would have."""

    def admit(self, tools: Sequence[Tool]) -> dict[str, RemoteTool]:
        """The tools that there are, by our names for them."""
        self.refused = {}
        found: dict[str, RemoteTool] = {}
        for tool in self._pinned(self._sound(tools)):
            name = self._config.rename.get(tool.name, tool.name)
            if name in found:
                del found[name]
                self._refuse(name, "two of the server's tools have this name after renaming")
            elif name not in self.refused:
                found[name] = RemoteTool(f"mcp://{self._config.name}/{name}", tool)
        self._compare(found)
        self._miss(tools)
        return found

    @property
    def outdated(self) -> bool:
        """Whether something was approved since the last listing was judged."""
        return self._file is not None and self._file.stamp() != self._stamp

    # --- one tool -----------------------------------------------------------------------------------------------------

    def _sound(self, tools: Sequence[Tool]) -> Iterator[Tool]:
        """Those that are wanted and that are within bounds."""
        if len(tools) > MOST_TOOLS:
            self._tell(f"lists {len(tools)} tools: those after the first {MOST_TOOLS} are refused")
        wanted = [tool for tool in tools[:MOST_TOOLS] if self._wants(tool.name)]
        doubled = _doubled(wanted)
        seen: set[str] = set()
        for tool in wanted:
            fault = "the server lists two different tools of this name" if tool.name in doubled else _fault(tool)
            if fault is not None:
                self._refuse(self._config.rename.get(tool.name, tool.name), fault)
            elif tool.name not in seen:
                seen.add(tool.name)
                yield tool

    def _wants(self, name: str) -> bool:
        config = self._config
        if any(fnmatchcase(name, pattern) for pattern in config.deny):
            return False
        return not config.allow or any(fnmatchcase(name, pattern) for pattern in config.allow)

    # --- pins ---------------------------------------------------------------------------------------------------------

    def _pinned(self, tools: Iterable[Tool]) -> list[Tool]:
        """Those that are as they were approved."""
        there = list(tools)
        if self._config.pins:
            return [tool for tool in there if self._has_its_pin(tool)]
        if self._file is None:
            return there
        try:
            return self._approved(there, self._file)
        except (ConfigurationError, OSError) as error:
            for tool in there:
                self._refuse(tool.name, f"what was approved is not known: {error}")
            return []

    def _has_its_pin(self, tool: Tool) -> bool:
        pin, has = self._config.pins.get(tool.name), fingerprint(definition_of(tool))
        if pin != has:
            why = "it has no pin" if pin is None else "its definition is not the one that was pinned"
            self._refuse(self._config.rename.get(tool.name, tool.name), f"{why}; it now has {has}")
        return pin == has

    def _approved(self, tools: list[Tool], file: PinFile) -> list[Tool]:
        definitions = {tool.name: definition_of(tool) for tool in tools}
        with file.editing() as known:
            pins = known or Pins(approved=definitions)
            if known is None:  # what is seen first is taken as it is
                file.write(pins)
                self._log.info("pinned %d tools as they are now, in %s", len(tools), file.path)
            waiting = {name: said for name, said in definitions.items() if not pins.is_approved(name, said)}
            pins.waiting.clear()
            pins.waiting.update(waiting)
        self._stamp = file.stamp()
        for name in waiting:
            why = "its definition has changed since it was approved" if name in pins.approved else "it is new and not approved"
            ours = self._config.rename.get(name, name)
            self._refuse(ours, f"{why}; look at it, and approve it: portico mcp-approve {self._config.name} {name}")
        return [tool for tool in tools if tool.name not in waiting]

    # --- names beside each other --------------------------------------------------------------------------------------

    def _compare(self, found: dict[str, RemoteTool]) -> None:
        """Refuse a name that looks like another one by foreign letters; tell of those that look alike by case or signs only."""
        others = {skeleton(address.rpartition("/")[2]): address for address in self.neighbours()}
        ours: dict[str, str] = {}
        for name in sorted(found, key=lambda name: (not name.isascii(), name)):  # plain names first: they are the ones copied
            looks = skeleton(name)
            like = ours.get(looks) or others.get(looks)
            ours.setdefault(looks, name)
            if like is None or like.rpartition("/")[2] == name:
                continue
            if not name.isascii():
                del found[name]
                self._refuse(name, f"its name looks like {like!r} and is another")
            else:
                self._tell(f"the tool {name!r} is easily taken for {like!r}")

    def _miss(self, tools: Sequence[Tool]) -> None:
        """Settings that speak of tools which there are not."""
        names = [tool.name for tool in tools]
        said = {"allow": self._config.allow, "rename": self._config.rename, "pins": self._config.pins}
        for key, patterns in said.items():
            for pattern in patterns:
                if not any(fnmatchcase(name, pattern) for name in names):
                    self._tell(
                        f"{key!r} speaks of the tool {pattern!r}, which it does not list.{did_you_mean(nearest(pattern, names))}"
                    )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _refuse(self, name: str, why: str) -> None:
        self.refused[name] = why
        self._tell(f"the tool {name!r} is refused: {why}")

    def _tell(self, line: str) -> None:
        """Once, and not again with each listing."""
        if line not in self._told:
            self._told.add(line)
            self._log.warning("%s", line.encode("ascii", "backslashreplace").decode())


def _doubled(tools: Sequence[Tool]) -> set[str]:
    """Names under which different tools are listed: what is described and what is called could be two."""
    kinds = Counter(name for name, _ in {(tool.name, fingerprint(definition_of(tool))) for tool in tools})
    return {name for name, count in kinds.items() if count > 1}


def _fault(tool: Tool) -> str | None:
    """What is wrong with a tool, as it stands in a listing."""
    if not tool.name or len(tool.name) > LONGEST_NAME:
        return f"its name has {len(tool.name)} characters, of 1 to {LONGEST_NAME}"
    if has_invisible(tool.name):
        return "its name has characters that do not show"
    said = len(tool.description or "") + len(tool.title or "")
    if said > LONGEST_DESCRIPTION:
        return f"its description has {said} characters, and may have {LONGEST_DESCRIPTION}"
    for schema in (tool.input_schema, tool.output_schema or {}):
        if (fault := schema_fault(schema)) is not None:
            return fault
    return None


def schema_fault(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with the size of a schema; None where nothing is. Nothing deep is gone into by recursion."""
    size, level, here = 0, 0, [cast("Any", schema)]
    while here:
        level += 1
        if level > DEEPEST_SCHEMA:
            return f"its schema has more than {DEEPEST_SCHEMA} levels"
        below: list[Any] = []
        for value in here:
            if isinstance(value, dict):
                members = cast("dict[str, Any]", value)
                size += sum(len(key) + 4 for key in members) + 2
                below += members.values()
            elif isinstance(value, list):
                items = cast("list[Any]", value)
                size += len(items) + 2
                below += items
            else:
                size += len(value) + 2 if isinstance(value, str) else 4
        if size > LARGEST_SCHEMA:
            return f"its schema is longer than {LARGEST_SCHEMA} characters"
        here = below
    return None
