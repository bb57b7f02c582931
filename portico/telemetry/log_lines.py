"""Log lines: a log record as one line, for people (`TextLines`) or for programs (`JsonLines`), with what it belongs to.

No text of a stranger can break a line, forge another one, or reach a terminal's controls; and no secret comes out. Above:
`logs.py`, which installs them.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

from portico.telemetry.log_context import log_context
from portico.telemetry.redaction import Redaction, secrets_in_hand

LONGEST: Final = 32 * 1024
"""Characters of a message, or of a traceback, that are written."""
READ: Final = 256 * 1024
"""How many of them are looked at for secrets; what comes behind is thrown away unread."""
INDENT: Final = "    "
"""Before each further line of a text: no such line can be taken for a record of its own."""
COLOURS: Final = {logging.DEBUG: "2", logging.INFO: "36", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
"""SGR parameters by level."""

ROUTER: Final = "portico_router"
"""What a supervisor gives along with its reports."""
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message", ROUTER}
"""What every record has; anything else somebody has given along as `extra`."""


class Lines(logging.Formatter):
    """What both have in common."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__()
        self._redaction = redaction

    def parts(self, record: logging.LogRecord) -> tuple[str, dict[str, str], dict[str, Any]]:
        """The message, the texts that belong to it, and what was given along: all without secrets."""
        more = _in_hand(record)
        texts: dict[str, str] = {}
        if record.exc_info:
            texts["exception"] = self._clean(self.formatException(record.exc_info), more)
        elif record.exc_text:
            texts["exception"] = self._clean(record.exc_text, more)
        if record.stack_info:
            texts["stack"] = self._clean(record.stack_info, more)
        given = {name: value for name, value in vars(record).items() if name not in _USUAL}
        return self._clean(_message(record), more), texts, self._redaction.plain(given, more) if given else {}

    def _clean(self, text: str, more: list[str]) -> str:
        text = self._redaction(text[:READ], more)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text) - LONGEST} characters more)"


class JsonLines(Lines):
    """One JSON object per line, in ASCII, without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """`time` (RFC 3339), `level`, `logger`, `message`; what it belongs to; `exception`, `stack`, `attributes`."""
        message, texts, given = self.parts(record)
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": message}
        about |= {**log_context().known(), **texts}
        if given:
            about["attributes"] = given
        return json.dumps(about, default=str).replace("\x7f", "\\u007f")


class PlainLines(Lines):
    """The message alone, for a logger whose messages are whole lines already."""

    def format(self, record: logging.LogRecord) -> str:
        """The message."""
        return self.parts(record)[0]


class TextLines(Lines):
    """One line, and below it, indented, what has several. `colour`: the level is coloured, for a terminal."""

    def __init__(self, redaction: Redaction, *, colour: bool = False) -> None:
        super().__init__(redaction)
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, message, and in brackets what it belongs to."""
        message, texts, given = self.parts(record)
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if self._colour:
            level = f"\x1b[{COLOURS.get(record.levelno, '0')}m{level}\x1b[0m"
        belongs = " ".join(f"{name}={value}" for name, value in {**log_context().known(), **given}.items())
        line = f"{at},{int(record.msecs):03d} {level} {_visible(str(record.name))}: {_visible(message)}"
        line += f" [{_visible(belongs)}]" if belongs else ""
        return "\n".join([line, *(INDENT + _visible(text) for text in texts.values())])


def _message(record: logging.LogRecord) -> str:
    """What it says. Where its arguments do not fit, it says what it can: nobody's mistake in a log line is worth a traceback."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001  # whatever an argument's own code raises
        return f"{record.msg} (its arguments cannot be written: {type(error).__name__})"


def _in_hand(record: logging.LogRecord) -> list[str]:
    try:
        return list(secrets_in_hand(getattr(record, ROUTER, None)))
    except Exception:  # noqa: BLE001  # a payload that is none, an agent that is gone: a log line is written all the same
        return []


def _visible(text: str) -> str:
    """A text whose further lines are indented, and whose other characters that cannot be seen are escaped."""
    if text.isprintable():
        return text
    lines = ("".join(one if one.isprintable() or one == "\t" else ascii(one)[1:-1] for one in line) for line in text.split("\n"))
    return f"\n{INDENT}".join(lines)
