"""TopApp: the live page of a gateway in a terminal: the headline, a view at a time, and the keys that act on what the cursor is on.

Above: the command. Below: the picture and what keeps it true, the views, the dialogs. It decides nothing: who may do what, the
gateway says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.reactive import reactive
from textual.theme import BUILTIN_THEMES, Theme
from textual.widgets import ContentSwitcher, Footer, Input, Static

from portico.cli.display import cut, one_line
from portico.cli.refusals import refusal
from portico.cli.terminal.actions import ACTIONS, AGENT, LETTER, RUN
from portico.cli.terminal.answer_form import AnswerForm
from portico.cli.terminal.confirmation import Confirmation
from portico.cli.terminal.details import AgentDetails, Details, LetterDetails, RunDetails
from portico.cli.terminal.headline import STATES, counted, figures
from portico.cli.terminal.help_page import HelpPage
from portico.cli.terminal.letter_list import LetterList
from portico.cli.terminal.listing import STYLES, Listing
from portico.cli.terminal.picture import Picture
from portico.cli.terminal.run_views import RunList, WaitingList, asks
from portico.cli.terminal.tree_view import TreeView
from portico.cli.terminal.upstream_list import UpstreamList
from portico.cli.terminal.usage_table import UsageTable
from portico.cli.terminal.watching import Watching
from portico.client import ClientError
from portico.errors import PorticoError

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from portico.cli.terminal.actions import Action
    from portico.cli.terminal.table import Cell
    from portico.cli.terminal.views import View
    from portico.client import AsyncClient

SOON: Final = 0.1
"""Seconds for which changes are collected before they are drawn."""
LONG_ENOUGH: Final = 8.0
"""Seconds for which a sentence stands."""
USAGE: Final = 10.0
"""Seconds between two readings of the usage while it is looked at."""
TERMINAL: Final = Theme(
    name="terminal",
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    warning="ansi_magenta",
    error="ansi_red",
    success="ansi_green",
    accent="ansi_default",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    variables={
        **BUILTIN_THEMES["ansi-dark"].variables,
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "footer-key-foreground": "ansi_default",
        "border-blurred": "ansi_default",
        "input-cursor-text-style": "reverse",
        "block-cursor-text-style": "reverse",
    },
)
"""The terminal's own ground and letters, whether they are dark or light."""
SUBJECTS: Final = {"tree": AGENT, "runs": RUN, "waiting": RUN, "letters": LETTER, "upstreams": AGENT}
"""What the rows of a view are, for actions."""


class TopApp(App[None]):
    """Shows one gateway until it is left."""

    TITLE = "portico top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #headline { height: 2; }
    #tabs { height: 1; }
    ContentSwitcher { height: 1fr; }
    #said { height: 1; display: none; }
    #find { display: none; height: 1; border: none; padding: 0; }
    .title { height: 1; }
    .dialog { align: center middle; }
    .box { width: 76; max-width: 100%; height: auto; max-height: 100%; padding: 0 1; }
    .box { border: round ansi_default; background: ansi_default; }
    .box .fields { height: auto; max-height: 14; }
    .question { margin-bottom: 1; }
    .buttons { height: 1; margin-top: 1; }
    .buttons Button { margin-right: 2; }
    .buttons Button:focus { text-style: reverse bold; }
    .box Input { border: none; height: 1; margin-bottom: 1; text-style: underline; }
    .box TextArea { height: 8; }
    #fault { height: auto; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("slash", "find", "Find"),
        Binding("escape", "clear", show=False),
        Binding("tab", "turn(1)", show=False, priority=True),
        Binding("shift+tab", "turn(-1)", show=False, priority=True),
        Binding("ctrl+r", "reread", show=False),
        *(Binding(str(at + 1), f"show('{name}')", show=False) for at, name in enumerate((*SUBJECTS, "usage"))),
        Binding("o", "order", "Order"),
        Binding("left", "fold(1)", show=False),
        Binding("right", "fold(0)", show=False),
        Binding("f", "status", "Status"),
        Binding("a", "answer", "Answer"),
        *(Binding(one.key, f"do('{one.name}')", one.name.capitalize()) for one in ACTIONS),
        Binding("l", "runs_of", "Runs"),
    ]
    view_name: reactive[str] = reactive("tree", init=False)

    def __init__(self, client: AsyncClient, url: str, picture: Picture | None = None, *, keyed: bool = False) -> None:
        """`client` is closed by whoever made it. `url` as it is shown; `picture`: what is known; `keyed`: whether it has a key."""
        super().__init__(ansi_color=True)  # said here, so that NO_COLOR leaves the terminal's own letters
        self.client = client
        self.url = url
        self.picture = Picture() if picture is None else picture
        self.watching = Watching(client, self.picture, self._changed, keyed=keyed)
        self.views: list[View] = [TreeView(), RunList(), WaitingList(), LetterList(), UpstreamList(), UsageTable()]
        self._keyed = keyed
        self._pending = False
        self._said: Text | None = None
        self._drawn: dict[str, Text | None] = {"said": None}
        self._rows = -1
        self.register_theme(TERMINAL)
        self.theme = TERMINAL.name

    # --- what is there ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The headline, the names of the views, one of them, and the keys."""
        yield Static(id="headline")
        yield Static(id="tabs")
        with ContentSwitcher(initial="tree"):
            for view in self.views:
                yield Listing(view, self.picture)
        yield Input(placeholder="show only rows with …", id="find", compact=True)
        yield Static(id="said")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to watch."""
        self.listing.focus()
        self._redraw()
        self.run_worker(self.watching.run(), name="watching")
        self.set_interval(USAGE, self._usage)

    @property
    def listing(self) -> Listing:
        """The view that is looked at."""
        return self.screen_stack[0].query_one(f"#{self.view_name}", Listing)

    @property
    def _over(self) -> bool:
        """Whether the screen is given back already: a timer may still ring then."""
        return not self.is_running or not self.screen_stack

    # --- drawing ------------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        if not self._pending and self.is_running:
            self._pending = True
            self.set_timer(SOON, lambda: self._redraw(rows=False))

    def _redraw(self, *, rows: bool = True) -> None:
        self._pending = False
        if self._over:
            return
        ground, room = self.screen_stack[0], self.size.width
        for name, text in (("headline", self._headline(room)), ("tabs", self._tabs(room))):
            if self._drawn.get(name) != text:  # a page that nobody looks at costs little
                self._drawn[name] = text
                ground.query_one(f"#{name}", Static).update(text, layout=False)
        self._foot()
        if rows or self.picture.rows != self._rows:
            self._rows = self.picture.rows
            self.listing.show()

    def on_resize(self, _: events.Resize) -> None:
        """Another room, another headline."""
        self._changed()

    def _headline(self, room: int) -> Text:
        link = self.picture.link
        first = Text(no_wrap=True, overflow="ellipsis")
        first.append(f"{cut(self.url)} ", "bold")
        _append(first, [STATES[link.state]])
        if self.picture.version:
            first.append(f"  {cut(self.picture.version)}", "dim")
        for cell in counted(self.picture):
            first.append("  ")
            _append(first, [cell])
        second = Text(no_wrap=True, overflow="ellipsis")
        if link.state in ("lost", "refused"):
            second.append(cut(link.reason), "red")
        else:
            _append(second, figures(self.picture, room))
        for line in (first, second):
            line.truncate(room, overflow="ellipsis")
        return Text("\n").join([first, second])

    def _tabs(self, room: int) -> Text:
        told = Text(no_wrap=True)
        for at, view in enumerate(self.views):
            here = view.name == self.view_name
            told.append(f" {at + 1} {view.title}{self._count(view.name)} ", "reverse bold" if here else "")
        told.truncate(room, overflow="ellipsis")
        return told

    def _narrowed(self) -> str:
        """What only is shown; empty where it is all."""
        view = self.listing.view
        runs = isinstance(view, RunList)
        only = {"agent": self.watching.agent if runs else "", "status": view.status if runs else "", "with": view.find}
        return ", ".join(f"{name} {one_line(text)}" for name, text in only.items() if text)

    def _count(self, name: str) -> str:
        counts = {
            "waiting": sum(asks(run) for run in self.picture.waiting.values()),
            "letters": len(self.picture.letters),
        }
        return f" ({counts[name]})" if counts.get(name) else ""

    def say(self, sentence: str, *, bad: bool = False) -> None:
        """A line at the bottom, for some seconds."""
        self._said = Text(cut(sentence), style="red" if bad else "bold")
        if isinstance(self.screen, Details):
            self.notify(cut(sentence), severity="error" if bad else "information", markup=False)
        self._foot()
        self.set_timer(LONG_ENOUGH, self._unsay)

    def _unsay(self) -> None:
        self._said = None
        if not self._over:
            self._foot()

    def _foot(self) -> None:
        """The last line above the keys: what was said last, else what only is shown."""
        narrowed = self._narrowed()
        told = self._said or (Text(f"Only {narrowed}. Esc shows all.", style="magenta") if narrowed else None)
        foot = self.screen_stack[0].query_one("#said", Static)
        if told != self._drawn["said"]:
            self._drawn["said"] = told
            foot.display = told is not None
            foot.update(told or "")

    # --- views --------------------------------------------------------------------------------------------------------

    def action_show(self, name: str) -> None:
        """Look at a view."""
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.view_name = name

    def action_turn(self, by: int) -> None:
        """Look at the next view; in a dialog, go to the next field."""
        if len(self.screen_stack) > 1:
            (self.screen.focus_next if by > 0 else self.screen.focus_previous)()
            return
        names = [view.name for view in self.views]
        self.view_name = names[(names.index(self.view_name) + by) % len(names)]

    def watch_view_name(self, name: str) -> None:
        """Another view is looked at."""
        self.screen_stack[0].query_one(ContentSwitcher).current = name
        self._close_find()
        self.listing.focus()
        self._usage()
        self.refresh_bindings()
        self._redraw()

    def _usage(self) -> None:
        if self.view_name == "usage":
            self.watching.want("usage")

    def action_reread(self) -> None:
        """Read everything anew."""
        self.watching.want("tree", "runs", "waiting", "letters", "usage")

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpPage())

    def action_order(self) -> None:
        """Another order of the tree."""
        view = self.listing.view
        if isinstance(view, TreeView):
            view.turn()
            self.listing.at = 0
            self._redraw()

    def action_fold(self, folded: int) -> None:
        """Fold or unfold a branch of the tree."""
        listing = self.listing
        if isinstance(listing.view, TreeView) and listing.key is not None:
            listing.show(listing.view.fold(self.picture, listing.key, folded=bool(folded)))

    def action_status(self) -> None:
        """Show only runs of another status."""
        view = self.listing.view
        if isinstance(view, RunList):
            self.watching.status = view.turn()
            self.watching.want("runs")
            self._redraw()

    def action_runs_of(self) -> None:
        """Show the runs of the agent under the cursor."""
        found = self._subject()
        if found is not None and found[0] == AGENT:
            self.watching.agent = found[1]
            for view in self.views:
                if isinstance(view, RunList):
                    view.agent = found[1]
            self.watching.want("runs")
            self.action_show("runs")

    # --- to find ------------------------------------------------------------------------------------------------------

    def action_find(self) -> None:
        """Type what rows must have."""
        field = self.query_one("#find", Input)
        field.value = self.listing.view.find
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what is left, as it is typed."""
        if event.input.id == "find" and event.input.display:
            self.listing.view.find = event.value
            self._redraw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the rows."""
        if event.input.id == "find":
            self._close_find()
            self.listing.focus()

    def action_clear(self) -> None:
        """Show all again."""
        self._close_find()
        view = self.listing.view
        view.find = ""
        if isinstance(view, RunList):
            view.status = view.agent = self.watching.status = self.watching.agent = ""
            self.watching.want("runs")
        self.listing.focus()
        self._redraw()

    def _close_find(self) -> None:
        self.screen_stack[0].query_one("#find", Input).display = False

    # --- to look closer, and to act -----------------------------------------------------------------------------------

    def _subject(self) -> tuple[str, str] | None:
        """What the keys act on: kind and name."""
        if isinstance(self.screen, Details):
            return self.screen.subject, self.screen.subject_name
        subject, key = SUBJECTS.get(self.view_name), self.listing.key
        if subject is None or key is None:
            return None
        place = self.picture.places.get(key)
        return subject, place.name if subject == AGENT and place is not None else key

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        """Enter: details; of a run that waits for an answer, there too."""
        match SUBJECTS.get(event.view.name):
            case "agent":
                place = self.picture.places.get(event.key)
                if place is not None:
                    self.push_screen(AgentDetails(self.client, AGENT, place.node))
            case "run":
                self.push_screen(RunDetails(self.client, RUN, event.key))
            case "dead letter":
                letter = next((one for one in self.picture.letters if one["id"] == event.key), None)
                if letter is not None:
                    self.push_screen(LetterDetails(self.client, LETTER, letter))
            case _:
                pass

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Which keys there are now: only those of what is looked at are shown, and work."""
        here = self.screen.subject if isinstance(self.screen, Details) else SUBJECTS.get(self.view_name, "")
        rows = not isinstance(self.screen, Details)
        allowed = {
            "order": rows and self.view_name == "tree",
            "fold": rows and self.view_name == "tree",
            "status": rows and self.view_name == "runs",
            "runs_of": here == AGENT,
            "answer": here == RUN and (not rows or self.view_name == "waiting"),
            "find": rows,
            "clear": rows,
        }
        if action == "do":
            return any(one.name == parameters[0] and one.subject == here for one in ACTIONS)
        return allowed.get(action, True)

    def action_do(self, name: str) -> None:
        """Ask whether to do it, and do it."""
        found = self._subject()
        action = next(one for one in ACTIONS if one.name == name)
        if found is None or found[0] != action.subject:
            return
        subject = found[1]

        def decided(reason: str | None) -> None:
            if reason is not None:
                self.run_worker(self._perform(action, subject, reason))

        self.push_screen(Confirmation(action, subject), decided)

    async def _perform(self, action: Action, subject: str, reason: str) -> None:
        try:
            said = await action.perform(self.client, subject, reason)
        except ClientError as error:
            self.say(f"{action.name}: {refusal(error, self.client.calls.url, keyed=self._keyed).detail}", bad=True)
        except PorticoError as error:  # a name that cannot stand in a path
            self.say(f"{action.name}: {error}", bad=True)
        else:
            self.say(said)
        self.watching.want(*({AGENT: ("tree",), RUN: ("runs", "waiting")}.get(action.subject, ("letters", "runs"))))

    def action_answer(self) -> None:
        """Answer the run under the cursor."""
        found = self._subject()
        run = self.picture.waiting.get(found[1]) if found is not None and found[0] == RUN else None
        if run is None or not asks(run):
            self.say("It waits for no answer.", bad=True)
            return

        async def send(value: Any) -> str:
            await self.client.runs.input(run["run_id"], value)
            return f"Run {run['run_id']} goes on."

        def answered(said: str | None) -> None:
            if said is not None:
                self.say(said)
                self.watching.want("waiting", "runs")

        self.push_screen(AnswerForm(run, send), answered)


def _append(line: Text, cells: list[Cell]) -> None:
    for cell in cells:
        line.append(one_line(cell.text), STYLES[cell.tone])
