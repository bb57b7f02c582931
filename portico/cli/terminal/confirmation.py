"""Confirmation: a question before an action is done, with room for a reason where the gateway keeps one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from portico.cli.display import cut

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from portico.cli.terminal.actions import Action


class Confirmation(ModalScreen[str | None]):
    """Ends with the reason, which may be empty; with None where it is not to be done."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape,n,q", "no", show=False),
        Binding("y", "yes", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, action: Action, name: str) -> None:
        super().__init__(classes="dialog")
        self._action = action
        self._question = action.question.format(name=cut(name))

    def compose(self) -> ComposeResult:
        """The question, and its answers."""
        with Vertical(classes="box"):
            yield Static(Text(self._question), classes="question")
            if self._action.reason:
                yield Input(placeholder="why (may be empty)", id="reason", max_length=500)
            with Horizontal(classes="buttons"):
                yield Button(f"{self._action.name.capitalize()} (y)", id="yes", compact=True)
                yield Button("Leave it (n)", id="no", compact=True)

    def on_mount(self) -> None:
        """Where something is lost, Enter alone does nothing."""
        self.query_one("#no" if self._action.harmful else "#reason" if self._action.reason else "#yes").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        if event.button.id == "yes":
            self.action_yes()
        else:
            self.action_no()

    def on_input_submitted(self) -> None:
        """Enter behind the reason."""
        self.action_yes()

    def action_yes(self) -> None:
        """Do it."""
        found = self.query(Input)
        self.dismiss(found.first().value.strip() if found else "")

    def action_no(self) -> None:
        """Leave it."""
        self.dismiss(None)
