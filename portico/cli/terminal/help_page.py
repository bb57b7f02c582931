"""HelpPage: the keys, and what the words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult

TEXT: Final = """\
Everywhere   1 … 6  a view             Tab  the next one
             ↑ ↓ PgUp PgDn Home End    or k j g G
             Enter  details            Esc  back
             /  show only rows with a text
             Ctrl+R  read everything anew
             ?  this page              q  quit
Tree         ← →  fold, unfold         o  another order
             s suspend   r resume   R restart   d drain
             l  the runs of this agent
Runs         f  another status         c  cancel
Waiting      a  answer                 c  cancel
Dead letters x  send again (redrive)

LIFE     how many lives a process has had
RST/MIN  restarts in the last minute; of a supervisor: used
         of its window / allowed in it
DEPTH    messages that wait            BUSY  messages in hand
lag      how late the gateway's event loop was

Every action asks before it is done. Escape closes this page."""


class HelpPage(ModalScreen[None]):
    """Any of the usual keys closes it."""

    BINDINGS: ClassVar[list[Any]] = [Binding("escape,q,question_mark,enter", "app.pop_screen", show=False)]

    def __init__(self) -> None:
        super().__init__(classes="dialog")

    def compose(self) -> ComposeResult:
        """The text."""
        with VerticalScroll(classes="box help"):
            yield Static(Text(TEXT))
