"""Printing: values of agents as JSON text that somebody reads. Whatever an agent made of them, it can be printed."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json


def printed(value: Any) -> bytes:
    """A value as JSON text for somebody to read: bytes as base64url, and what is not JSON-able as its text."""
    try:
        return to_json(value, inf_nan_mode="null", bytes_mode="base64", fallback=str)
    except ValueError:
        return to_json(ascii(value))


def printable(value: Any) -> Any:
    """The value, where `printed` can print it; else its text."""
    try:
        to_json(value, bytes_mode="base64", fallback=str)
    except ValueError:
        return ascii(value)
    return value


def ascii_json(value: Any) -> str:
    """Plain data as JSON in ASCII alone, without control characters: it cannot break a line, or a terminal."""
    return json.dumps(value).replace("\x7f", "\\u007f")
