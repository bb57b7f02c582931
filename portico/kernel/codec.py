"""JsonCodec: payloads as standard JSON (RFC 8259), bytes as they are.

The codec of `Runtime(strict=True)`, which finds what would not survive a wire.
"""

from __future__ import annotations

import json
from typing import Any, Final

BYTES: Final = b"\0"
"""Begins a payload that is bytes. No JSON text begins so."""


class JsonCodec:
    """See `protocols.Codec`. Raises `ValueError` on what is not JSON: objects, NaN. Keys that are numbers come back as strings."""

    def encode(self, value: Any) -> bytes:
        """See `Codec.encode`."""
        if isinstance(value, bytes):
            return BYTES + value
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
        except TypeError as error:
            raise ValueError(str(error)) from error
        except RecursionError as error:
            raise ValueError("The value is nested too deeply to be written as JSON.") from error

    def decode(self, data: bytes) -> Any:
        """See `Codec.decode`."""
        return data[1:] if data.startswith(BYTES) else json.loads(data)
