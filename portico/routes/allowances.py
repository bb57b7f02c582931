"""Allowances: what a caller's quotas have left, as the headers `RateLimit-Policy` and `RateLimit`.

In the form of draft-ietf-httpapi-ratelimit-headers-10: structured fields, one item per quota.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.quota import Allowance, Policy


def allowance_headers(allowances: Sequence[Allowance]) -> list[tuple[bytes, bytes]]:
    """Two headers; none where there is no quota. `q` calls in `w` seconds; `r` are left, and all of them again in `t` seconds."""
    if not allowances:
        return []
    policies = _policies(tuple([policy for policy, _, _ in allowances]))
    left = ", ".join([f'"{policy.name}";r={remaining};t={math.ceil(reset)}' for policy, remaining, reset in allowances])
    return [policies, (b"ratelimit", left.encode("ascii"))]


@lru_cache(maxsize=100)
def _policies(policies: tuple[Policy, ...]) -> tuple[bytes, bytes]:
    """They are the same for every call of a gateway."""
    told = ", ".join([f'"{name}";q={limit};w={window}' for name, limit, window in policies])
    return b"ratelimit-policy", told.encode("ascii")
