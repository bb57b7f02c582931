"""Picture: what is known of a gateway: its tree, figures, runs, dead letters. Plain data; nothing here waits or draws.

Above: the views, which show it. Below: `watching.py`, which reads the gateway and hands on what it says.
What is kept is bounded: a terminal may stay open for weeks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECONDS: Final = 300
"""How many seconds of figures are kept."""
MOST: Final = 500
"""How many runs, and how many dead letters, are kept: the newest."""
Record = dict[str, Any]

NODE: Final = "node "
APART: Final = frozenset({"children", "beside"})
"""What of a node stands in places of its own."""
NODES: Final = 20
"""Where more nodes are stale, the whole tree is."""

_STATUS: Final = {"process.started": "running", "process.stopped": "stopped", "process.failed": "failed"}
"""What the status is after an event that does not say."""


@dataclass(slots=True)
class Place:
    """A node of the tree where it stands."""

    name: str
    node: Record
    """As the gateway has it, without its children."""
    level: int
    """0 for the root."""
    parents: tuple[str, ...] = ()
    """From the root down."""
    size: int = 0
    """How many nodes stand below it."""

    @property
    def is_supervisor(self) -> bool:
        """Whether it has a strategy, and so may have children."""
        return "strategy" in self.node

    @property
    def status(self) -> str:
        """Of a process; empty for a supervisor."""
        return str(self.node.get("status") or "")

    @property
    def state(self) -> str:
        """What a person is told: that it takes no calls, where that is so; else the status, or a supervisor's strategy."""
        intake = str(self.node.get("intake") or "")
        return intake if intake in ("suspended", "draining") else self.status or str(self.node.get("strategy") or "")

    @property
    def depth(self) -> int:
        """How many messages wait."""
        return whole(mapping(self.node.get("mailbox")).get("depth"))

    @property
    def in_flight(self) -> int:
        """How many are handled now."""
        return whole(self.node.get("in_flight"))

    @property
    def restarts_per_minute(self) -> int:
        """In the last 60 seconds."""
        return whole(self.node.get("restarts_per_minute"))

    @property
    def crash(self) -> Record | None:
        """The last one."""
        return mapping(self.node.get("last_crash")) or None


@dataclass(slots=True)
class Link:
    """How the connection is."""

    state: str = "connecting"
    """`connecting`, `live`, `asking` (no events to be had: it is asked every few seconds), `lost`, `refused`."""
    reason: str = ""
    """What is wrong, as a sentence."""


@dataclass(slots=True)
class Picture:
    """All that is known. `rows` grows with each change of what the views show, so that whoever draws knows when to."""

    link: Link = field(default_factory=Link)
    version: str = ""
    """The gateway's."""
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    """In the order of the tree."""
    runs: dict[str, Record] = field(default_factory=dict[str, Record])
    """By id; not in order."""
    waiting: dict[str, Record] = field(default_factory=dict[str, Record])
    letters: list[Record] = field(default_factory=list[Record])
    """The newest first."""
    usage: Record | None = None
    """None where the gateway does not tell."""
    readiness: Record = field(default_factory=dict[str, Any])
    figures: deque[Record] = field(default_factory=lambda: deque[Record](maxlen=SECONDS))
    """One a second, the last one last."""
    stale: set[str] = field(default_factory=set[str])
    """What is to be read anew: `tree`, `runs`, `waiting`, `letters`; `node NAME` for one node of the tree."""
    rows: int = 0

    @property
    def now(self) -> Record:
        """The figures of the last second; empty where there are none."""
        return self.figures[-1] if self.figures else {}

    # --- what was read ------------------------------------------------------------------------------------------------

    def set_tree(self, root: Mapping[str, Any]) -> None:
        """The tree as the gateway has it. Its former one is forgotten."""
        self.places = {}
        beside = cast("list[Mapping[str, Any]]", root.get("beside") or [])
        for one in (root, *beside):
            self._place(one, 0, ())
        self.rows += 1

    def set_runs(self, found: list[Record]) -> None:
        """The newest runs."""
        self.runs = {run["run_id"]: run for run in found}
        self.rows += 1

    def set_waiting(self, found: list[Record]) -> None:
        """The runs that wait."""
        self.waiting = {run["run_id"]: run for run in found}
        self.rows += 1

    def set_letters(self, found: list[Record]) -> None:
        """The newest dead letters."""
        self.letters = found[:MOST]
        self.rows += 1

    def set_node(self, node: Mapping[str, Any]) -> None:
        """One node as the gateway has it now."""
        place = self.places.get(node["name"])
        if place is not None:
            place.node |= {name: value for name, value in node.items() if name not in APART}
            if place.crash is not None:  # its traceback is read by whoever looks at it
                place.node["last_crash"] = {name: value for name, value in place.crash.items() if name != "traceback"}
            self.rows += 1

    def _place(self, root: Mapping[str, Any], level: int, parents: tuple[str, ...]) -> None:
        """Not by recursion: how deep a tree is, others decide."""
        todo: list[tuple[Mapping[str, Any], int, tuple[str, ...]]] = [(root, level, parents)]
        while todo:
            node, level, parents = todo.pop()
            name = str(node["name"])
            key = name
            while key in self.places:  # a supervisor may have the name of a process
                key += "\u00a0"
            self.places[key] = Place(name, {kind: value for kind, value in node.items() if kind not in APART}, level, parents)
            for parent in parents:
                self.places[parent].size += 1
            children = cast("list[Any]", node.get("children") or [])
            todo.extend((child, level + 1, (*parents, key)) for child in reversed(children) if "name" in mapping(child))

    # --- what happens -------------------------------------------------------------------------------------------------

    def apply(self, name: str, data: Record) -> None:
        """An event of the gateway. What it does not say enough about is noted as stale."""
        if name == "figures":
            self._count(data)
        elif name.startswith("run."):
            self._run(data)
        elif name.startswith(("process.", "supervisor.")):
            self._process(name, data)
        elif name == "message.dead_letter":
            self.stale.add("letters")
        elif name == "hello":
            self.version = str(data.get("version") or "")
        if name != "figures" or data.get("agents"):  # other figures change no row
            self.rows += 1

    def _count(self, data: Record) -> None:
        self.figures.append({kind: value for kind, value in data.items() if kind != "agents"})
        for name, changed in mapping(data.get("agents")).items():
            place = self.places.get(name)
            if place is None:
                self.stale.add("tree")
                continue
            more = dict(mapping(changed))
            if "depth" in more:
                place.node["mailbox"] = {**mapping(place.node.get("mailbox")), "depth": more.pop("depth")}
            place.node |= more

    def _process(self, name: str, data: Record) -> None:
        place = self.places.get(str(data.get("name")))
        if place is None:
            self.stale.add("tree")
            return
        if name == "process.status":
            place.node["status"] = data.get("status", place.status)
        elif name in _STATUS:
            place.node["status"] = _STATUS[name]
        if name in ("process.started", "process.restarted") and "incarnation" in data:
            place.node["incarnation"] = data["incarnation"]
        if name == "process.restarted":
            place.node["restarts"] = whole(place.node.get("restarts")) + 1
        self._look_again(place.name)

    def _look_again(self, name: str) -> None:
        """An event says what happened, and not all that is so now."""
        self.stale.add(f"{NODE}{name}")
        nodes = {what for what in self.stale if what.startswith(NODE)}
        if len(nodes) > NODES:
            self.stale = (self.stale - nodes) | {"tree"}

    def _run(self, data: Record) -> None:
        run_id, status = data.get("run_id"), str(data.get("status") or "")
        if not isinstance(run_id, str):
            return
        ended = status in ("succeeded", "failed", "cancelled", "timed_out")
        known = self.runs.get(run_id, {"run_id": run_id, "created_at": data.get("at"), "finished_at": None, "attempts": 0})
        self.runs[run_id] = {
            **known,
            **{name: data[name] for name in ("agent", "operation", "status", "principal") if name in data},
        }
        if ended:
            self.runs[run_id]["finished_at"] = data.get("at")
        if len(self.runs) > 2 * MOST:
            newest = sorted(self.runs.values(), key=accepted)[-MOST:]
            self.runs = {run["run_id"]: run for run in newest}
        if status == "waiting":
            self.stale.add("waiting")
        else:
            self.waiting.pop(run_id, None)
        if status == "failed":
            self.stale.add("letters")

    # --- what is asked of it ------------------------------------------------------------------------------------------

    def processes(self) -> Iterator[Place]:
        """All that have a status: no supervisors."""
        return (place for place in self.places.values() if place.status)

    def newest_runs(self) -> list[Record]:
        """The newest first."""
        return sorted(self.runs.values(), key=accepted, reverse=True)[:MOST]


def accepted(run: Record) -> float:
    """When a run was accepted, in seconds since the epoch; 0 where that is not known."""
    return moment(run.get("created_at")) or 0.0


def moment(value: Any) -> float | None:
    """A time as seconds since the epoch: of RFC 3339, or seconds already; None where it is none."""
    if isinstance(value, int | float):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None


def mapping(value: Any) -> Record:
    """The value where it is an object; else an empty one: what a stranger says may have any form."""
    return cast("Record", value) if isinstance(value, dict) else {}


def whole(value: Any) -> int:
    """The value where it is a whole number; else 0."""
    return int(value) if isinstance(value, int) else 0
