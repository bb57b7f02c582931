"""AnswerForm: answers a run that waits: a field for each property of its schema, or JSON. It stays until the answer is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static, TextArea

from portico.cli.display import cut, one_line
from portico.cli.terminal.answer import MisfitError, answer_of, fields_of, parsed, skeleton
from portico.cli.terminal.picture import mapping
from portico.client import ContractViolated
from portico.errors import PorticoError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.app import ComposeResult

    from portico.cli.terminal.picture import Record


class AnswerForm(ModalScreen[str | None]):
    """Ends with what is to be said of the answer, None where none was given."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("escape", "leave", show=False),
        Binding("ctrl+s", "send", show=False, priority=True),
    ]

    def __init__(self, run: Record, send: Callable[[Any], Awaitable[str]]) -> None:
        """`send` gives the answer, and returns what to say then; it raises `ClientError`."""
        super().__init__(classes="dialog")
        self._run = run
        self._send = send
        waits = mapping(run.get("waiting_for"))
        self._prompt = str(waits.get("prompt") or "")
        self._schema = waits.get("schema")
        self._fields = fields_of(self._schema)

    def compose(self) -> ComposeResult:
        """The prompt and the fields."""
        with Vertical(classes="box"):
            yield Static(Text(f"{cut(str(self._run.get('agent')))} asks:", style="bold"))
            with VerticalScroll(classes="fields"):
                yield Static(Text("\n".join(one_line(line) for line in self._prompt[:4000].split("\n"))), classes="question")
                if self._fields is None:
                    yield Static(Text("The answer, as JSON:"))
                    yield TextArea(skeleton(self._schema), id="json", compact=True)
                for at, one in enumerate(self._fields or ()):
                    yield Static(Text(one_line(one.label)))
                    yield Input(value=one.default, id=f"field-{at}", compact=True)
            yield Static("", id="fault")
            with Horizontal(classes="buttons"):
                yield Button("Answer (ctrl+s)", id="yes", compact=True)
                yield Button("Leave it (esc)", id="no", compact=True)

    def on_mount(self) -> None:
        """Begin with the first field."""
        self.query("#json, Input").first().focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: the next field, and behind the last one the answer."""
        if event.input is self.query(Input).last():
            self.action_send()
        else:
            self.focus_next(Input)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """One of the two."""
        if event.button.id == "yes":
            self.action_send()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Give none."""
        self.dismiss(None)

    def action_send(self) -> None:
        """Check it, and give it."""
        try:
            if self._fields is None:
                answer = parsed(self.query_one(TextArea).text)
            else:
                answer = answer_of(self._fields, [one.value for one in self.query(Input)])
        except MisfitError as error:
            self._fault(str(error))
            return
        self._fault("Sending …")
        self.run_worker(self._give(answer), exclusive=True)

    async def _give(self, answer: Any) -> None:
        try:
            said = await self._send(answer)
        except ContractViolated as error:
            faults = [f"{fault.get('path') or 'the answer'}: {fault.get('message')}" for fault in error.faults]
            self._fault("; ".join(faults) or str(error))
        except PorticoError as error:
            self._fault(str(error))
        else:
            self.dismiss(said)

    def _fault(self, text: str) -> None:
        self.query_one("#fault", Static).update(Text(cut(text), style="red"))
