"""Allowances: what a caller's quotas have left, as the headers `RateLimit-Policy` and `RateLimit`.

In the form of draft-ietf-httpapi-ratelimit-headers-10: structured fields, one item per quota.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.quota import Allowance


def allowance_headers(allowances: Sequence[Allowance]) -> list[tuple[bytes, bytes]]:
    """Two headers; none where there is no quota. `q` calls in `w` seconds; `r` are left, and all of them again in `t` seconds."""
    if not allowances:
        return []
    policies = ", ".join([f'"{one.policy}";q={one.limit};w={one.window}' for one in allowances])
    left = ", ".join([f'"{one.policy}";r={one.remaining};t={math.ceil(one.reset)}' for one in allowances])
    return [(b"ratelimit-policy", policies.encode("ascii")), (b"ratelimit", left.encode("ascii"))]
