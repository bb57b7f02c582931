"""Machine: how fast this one is, beside the one that the absolute targets come from.

A ratio carries over from machine to machine; "20,000 a second" does not. Both were measured with the same bare round trip.
"""

from __future__ import annotations

from functools import cache
from statistics import median

import uvloop
from asks import bare

REFERENCE = 325_000
"""Bare round trips per second, one caller, of the machine that the absolute targets were set on."""


@cache
def pace() -> float:
    """The part of that machine's speed that this one has; measured once, and printed."""
    here = median(uvloop.run(bare(1, 32_000)) for _ in range(5))
    print(f"\nThis machine does {here:,.0f} bare round trips a second, {here / REFERENCE:.2f} of the {REFERENCE:,} of the one that")
    print("absolute targets come from. They are scaled by that.", flush=True)
    return here / REFERENCE
