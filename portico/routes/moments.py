"""Moment: a time that a request names, RFC 3339 (section 5.6) with its offset from UTC."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
_PATTERN: Final = (
    r"^[1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))"
    r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$"
)


def _written(value: Any) -> Any:
    """Only what is written as a date: of a number, also one as text, nobody could say whether it counts seconds or milliseconds."""
    if not isinstance(value, str) or _DATE.match(value) is None:
        raise PydanticCustomError("rfc3339", "It must be a time of RFC 3339, as text: 2026-01-31T09:30:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written)]
MomentHeader = Annotated[Moment, WithJsonSchema({"type": "string", "pattern": _PATTERN})]
"""A time in a header. By its pattern, for client generators write no `date-time` into headers."""
