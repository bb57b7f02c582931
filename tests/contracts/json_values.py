"""JSON values for the suites of ports that carry data: a strategy that makes them, and a comparison that takes nothing for the same
that JSON tells apart.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

TEXT: st.SearchStrategy[str] = st.text(st.characters(codec="utf-8"), max_size=20)
"""Every text that UTF-8 can write, which leaves out lone surrogates."""

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
"""Every kind of JSON value (RFC 8259)."""

OBJECTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(TEXT, JSON, max_size=4)
"""JSON objects: what a state is."""

FALSY: list[Any] = [None, False, 0, 0.0, "", [], {}]
"""Values that a careless implementation takes for none at all."""


def exact(value: Any) -> str:
    """The value as a text that is the same for the same JSON only: Python holds 1, 1.0 and True for equal."""
    return json.dumps(value, sort_keys=True)
