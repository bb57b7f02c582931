"""configure_logging: the log of a program, as `portico serve` writes it: one handler of the root logger, for people or programs.

For a program that uses `create_app` too. It changes nothing but the root logger. Where log records also go to an OTLP endpoint,
`log_export.py` does that.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, Literal

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.telemetry.log_lines import JsonLines, TextLines
from portico.telemetry.redaction import Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

LEVELS: Final = ("debug", "info", "warning", "error")
"""From which level on lines are written."""
TALKATIVE: Final = ("httpx", "httpx2")
"""They print whole addresses, with the keys that stand in some."""


def configure_logging(
    level: str = "info",
    form: Literal["text", "json"] = "text",
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> Redaction:
    """Write log lines of every logger to a stream, from `level` on, with the request, run, trace and agent that they belong to.

    It replaces the handlers of the root logger. Credentials do not come out: those that look like some, the values of secret
    fields, and those that are given.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `text` for people, `json` for one object per line.
        secrets: credentials to look for, as they are.
        stream: where to; None for standard error.
        environ: says whether there may be colours (`NO_COLOR`, `TERM`), which only a terminal gets; None for no colours.

    Returns:
        What takes the secrets out.

    Raises:
        ConfigurationError: another level or form.
    """
    if level.lower() not in LEVELS:
        raise ConfigurationError(f"{level!r} is not a log level: {', '.join(LEVELS)}.{did_you_mean(nearest(level, LEVELS))}")
    if form not in ("text", "json"):
        raise ConfigurationError(f"{form!r} is no form of a log: text or json.")
    target: TextIO = stream or sys.stderr
    redaction = Redaction(secrets)
    handler = logging.StreamHandler(target)
    coloured = environ is not None and _takes_colours(target, environ)
    handler.setFormatter(JsonLines(redaction) if form == "json" else TextLines(redaction, colour=coloured))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return redaction


def _takes_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether it is a terminal that shows colours to somebody who wants them (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
