"""Durable: everything that is measured about runs that are stored. `durable.py [--tiny] [PART…]` measures some of it.

`--tiny` makes rounds so few and small that their figures say nothing: for trying whether it all works.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import growth
import pages
import plain_asks
import resumption
import start_up
import store_alone
import stored_asks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PARTS: Mapping[str, Callable[[], bool]] = {
    "stored_asks": stored_asks.main,
    "plain_asks": plain_asks.main,
    "resumption": resumption.main,
    "pages": pages.main,
    "start_up": start_up.main,
    "growth": growth.main,
    "store_alone": store_alone.main,
}

TINY: Mapping[str, Callable[[], bool]] = {
    "stored_asks": partial(stored_asks.main, rounds=1, seconds=1),
    "plain_asks": partial(plain_asks.main, pairs=2, rounds=1),
    "resumption": partial(resumption.main, rounds=1, events=1_000, runs=2_000),
    "pages": partial(pages.main, rounds=3, runs=2_000, seconds=1),
    "start_up": partial(start_up.main, rounds=1, runs=2_000, queued=100),
    "growth": partial(growth.main, seconds=1),
    "store_alone": partial(store_alone.main, rounds=1, number=2_000),
}


def main(names: Sequence[str] = (), parts: Mapping[str, Callable[[], bool]] = PARTS) -> bool:
    """Measure these parts, all of them unless some are named. Returns whether their targets were met."""
    results = [parts[name]() for name in names or parts]
    return all(results)


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--tiny"]
    unknown = [name for name in given if name not in PARTS]
    if unknown:
        sys.exit(f"There is no part {', '.join(unknown)}. There are: {', '.join(PARTS)}")
    sys.exit(0 if main(given, TINY if "--tiny" in sys.argv else PARTS) else 1)
