"""Coding: values as they stand in a column, and back.

JSON text as bytes; None as NULL; bytes behind a zero byte, as in `JsonCodec`.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json, to_json

from portico.kernel.codec import BYTES

DEEP: Final = "The value is nested too deeply to be stored."


def encode(value: Any) -> bytes | None:
    """The value as it is stored, which is a copy.

    Raises:
        ValueError: it is no JSON value, or one that would come back as another, such as a set or NaN.
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        return BYTES + value
    try:
        text = to_json(value, inf_nan_mode="null")
        if from_json(text) == value:
            return text
    except ValueError:
        pass  # the standard library says what is wrong, and takes what is merely large or deep
    return _encode_slowly(value)


def decode(data: bytes | None) -> Any:
    """The value that was stored. Raises `ValueError` where the data is damaged."""
    if data is None:
        return None
    if data.startswith(BYTES):
        return data[1:]
    try:
        return from_json(data)
    except ValueError:
        return json.loads(data)


def text(value: str) -> str:
    """The text itself. Raises `ValueError` where it cannot be written as UTF-8."""
    if not value.isascii():
        value.encode()
    return value


def _encode_slowly(value: Any) -> bytes:
    """What `pydantic_core` does not give back as it was: tuples and keys that are numbers may pass, NaN and sets may not."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    except TypeError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError(DEEP) from error
