"""JsonLines: a log record as one line of JSON, for whoever collects logs.

Everything beyond ASCII and every control character is escaped: no text of a stranger can break a line.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """See the module."""

    def format(self, record: logging.LogRecord) -> str:
        """One object: `time` (RFC 3339), `level`, `logger`, `message`, and the traceback where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        about = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            about["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            about["stack"] = record.stack_info
        return json.dumps(about).replace("\x7f", "\\u007f")
