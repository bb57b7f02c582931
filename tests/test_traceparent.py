"""What strangers say of traces: taken where it is well formed, and else not there."""

from __future__ import annotations

import pytest

from portico.histogram import Histogram
from portico.traceparent import well_formed

GOOD = f"00-{'ab' * 16}-{'cd' * 8}-01"


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (GOOD, GOOD),
        pytest.param(GOOD.encode(), GOOD, id="bytes"),
        (f" {GOOD}\t", GOOD),
        (f"cc{GOOD[2:]}", GOOD),
        (f"01{GOOD[2:]}-what-comes-later", GOOD),
        (None, None),
        ("", None),
        ("nonsense1", None),
        (f"ff{GOOD[2:]}", None),
        (f"{GOOD}-more", None),
        (GOOD.upper(), None),
        (f"00-{'0' * 32}-{'cd' * 8}-01", None),
        (f"00-{'ab' * 16}-{'0' * 16}-01", None),
        (f"00-{'zz' * 16}-{'cd' * 8}-01", None),
        (f"{GOOD}\n", None),
        ("\udcff1", None),
    ],
)
def test_only_a_well_formed_traceparent_is_one(said: str | bytes | None, read: str | None) -> None:
    assert well_formed(said) == read


@pytest.mark.parametrize("said", ["", "1", "nonsense1", "a-b-c-1"])
def test_a_histogram_keeps_no_example_of_a_trace_that_cannot_be(said: str) -> None:
    histogram = Histogram((1.0,))
    histogram.add(0.5, said)

    assert (histogram.count, histogram.exemplars) == (1, None)
