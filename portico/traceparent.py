"""traceparent (W3C Trace Context), read: what a stranger says of the trace that a call belongs to, if it can be said so.

Above: every face, which takes none but a well-formed one: what comes later may rely on its form. Nothing here knows OpenTelemetry.
"""

from __future__ import annotations

import re
from typing import Final

_FORM: Final = re.compile(r"(?!ff)([0-9a-f]{2})(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?", re.DOTALL)
"""Version, what version 00 has, and what later versions may have behind it (§3.2.2)."""


def well_formed(said: str | bytes | None) -> str | None:
    """A traceparent of version 00, 55 characters; None where nothing, or nothing well formed, was said: then there is no trace."""
    if not said:
        return None
    match = _FORM.fullmatch((said if isinstance(said, str) else said.decode("latin-1")).strip(" \t"))
    if match is None or (match[3] is not None and match[1] == "00"):
        return None
    return f"00{match[2]}"
