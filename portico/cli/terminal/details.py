"""Details: one agent, run or dead letter in full, on a screen of its own, kept true while it is open."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from portico.cli.display import fields, one_line, said, shown
from portico.cli.remote_runs import as_told
from portico.cli.story import Story
from portico.cli.terminal.picture import mapping
from portico.errors import PorticoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from textual.app import ComposeResult

    from portico.cli.terminal.picture import Record
    from portico.client import AsyncClient

AGAIN: Final = 2.0
"""Seconds between two readings of an agent."""
SOON: Final = 0.2
"""Seconds for which the events of a run are collected before they are drawn."""
EVENTS: Final = 1000
"""How many events of a run are shown: the last ones."""


class Details(Screen[None]):
    """A text that can be scrolled, under a title."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("up,k", "scroll('up')", show=False),
        Binding("down,j", "scroll('down')", show=False),
        Binding("pageup", "scroll('page_up')", show=False),
        Binding("pagedown,space", "scroll('page_down')", show=False),
        Binding("home,g", "scroll('home')", show=False),
        Binding("end,G", "scroll('end')", show=False),
    ]

    def __init__(self, client: AsyncClient, subject: str, name: str) -> None:
        """`subject`: what it is, as `actions.py` names it; `name`: its name or id."""
        super().__init__()
        self.client = client
        self.subject = subject
        self.subject_name = name
        self._title = f" {subject.capitalize()} {one_line(name[:300])}"

    def compose(self) -> ComposeResult:
        """The title, the text, the keys."""
        yield Static(Text(self._title, style="bold reverse"), classes="title")
        with VerticalScroll():
            yield Static("…", id="text")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one(VerticalScroll).focus()
        self.run_worker(self.read(), exclusive=True)

    async def read(self) -> None:
        """Read what is to be shown, and keep it true."""
        raise NotImplementedError

    def action_scroll(self, how: str) -> None:
        """Scroll the text."""
        getattr(self.query_one(VerticalScroll), f"scroll_{how}")(animate=False)

    def tell(self, lines: Iterable[str]) -> None:
        """Show these lines. Nothing in them is obeyed or read as markup."""
        self.query_one("#text", Static).update(Text("\n".join(one_line(line) for line in lines)))


class AgentDetails(Details):
    """One process or supervisor of the tree."""

    def __init__(self, client: AsyncClient, subject: str, node: Record) -> None:
        """`node`: as it is known so far."""
        super().__init__(client, subject, str(node["name"]))
        self._node = node

    async def read(self) -> None:
        """Read it once, and again while it is open."""
        await self._once()
        self.set_interval(AGAIN, self._once)

    async def _once(self) -> None:
        try:
            node = await self.client.agent(self.subject_name)
        except PorticoError as error:
            self.tell([str(error), "", *agent_lines(self._node)])
        else:
            self.tell(agent_lines(node))


class RunDetails(Details):
    """One run, with its story as it goes on."""

    async def read(self) -> None:
        """The record, its events as they come, and the record again at its end."""
        try:
            record = await self._record()
            children = await self._children()
            told: deque[Record] = deque(maxlen=EVENTS)
            self._tell(record, told, children)
            async with self.client.runs.events(self.subject_name) as events:
                async for event in events:
                    told.append(as_told(event))
                    if not event.is_last:
                        self._draw_soon(record, told, children)
                    if event.type in ("run.waiting", "run.resumed"):
                        record |= await self._record()
            self._tell(await self._record(), told, await self._children())
        except PorticoError as error:
            self.notify(one_line(str(error)), severity="error", markup=False)

    def _draw_soon(self, record: Record, told: deque[Record], children: list[Record]) -> None:
        if not self._timers_pending:
            self._timers_pending = True
            self.set_timer(SOON, lambda: self._tell(record, told, children))

    _timers_pending = False

    def _tell(self, record: Record, told: deque[Record], children: list[Record]) -> None:
        self._timers_pending = False
        self.tell(Story(record, list(told), None, children).lines())

    async def _record(self) -> Record:
        return dict((await self.client.runs.get(self.subject_name)).data)

    async def _children(self) -> list[Record]:
        found = [dict(run.data) async for run in self.client.runs.list(parent=self.subject_name, limit=100)]
        return found[::-1]


class LetterDetails(Details):
    """One dead letter."""

    def __init__(self, client: AsyncClient, subject: str, letter: Record) -> None:
        super().__init__(client, subject, str(letter["id"]))
        self._letter = letter

    async def read(self) -> None:
        """It is known already."""
        letter = self._letter
        payload = json.dumps(letter.get("payload"), indent=2, ensure_ascii=False)
        plain = {name: said(value) for name, value in letter.items() if name != "payload" and value is not None}
        self.tell([*fields(plain, 12), "", "payload", *payload.split("\n")[:EVENTS]])


def agent_lines(node: Record) -> Iterator[str]:
    """All that the gateway tells of a node, the crash with its traceback last."""
    apart = ("name", "children", "operations", "last_crash", "mailbox", "capabilities")
    mailbox = mapping(node.get("mailbox"))
    told = {name.replace("_", " "): said(value) for name, value in node.items() if name not in apart and value is not None}
    if mailbox:
        told["mailbox"] = ", ".join(f"{name} {shown(value)}" for name, value in mailbox.items())
    yield from fields(told, 22)
    yield from _list("Operations", node.get("operations"))
    yield from _list("Capabilities", node.get("capabilities"))
    children: Any = node.get("children")
    if isinstance(children, list) and children:
        yield ""
        yield "Children"
        for child in (mapping(one) for one in cast("list[Any]", children)[:EVENTS]):
            yield f"  {child.get('name')}  {child.get('status') or child.get('strategy') or ''}"
    crash = mapping(node.get("last_crash"))
    if crash:
        yield ""
        yield "Last crash"
        yield from fields({name: said(value) for name, value in crash.items() if name != "traceback" and value is not None}, 14)
        yield from (f"  {line}" for line in str(crash.get("traceback") or "").split("\n"))


def _list(title: str, values: Any) -> Iterator[str]:
    if isinstance(values, list) and values:
        yield ""
        yield title
        yield from (f"  {said(value)}" for value in cast("list[Any]", values))
