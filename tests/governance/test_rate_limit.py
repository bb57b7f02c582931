"""RateLimit: what a caller may do at once, when it may go on, and what it costs to remember."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import ConfigurationError, QuotaExceeded
from portico.governance.rate_limit import SWEEP_AT, Bucket, RateLimit


class Time:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(limit: RateLimit, payer: str = "alice") -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as found:
        limit.take(payer)
    return found.value


def test_so_many_calls_may_come_at_once_and_then_one_each_interval() -> None:
    time = Time()
    limit = RateLimit(["3/minute"], time)

    assert [limit.take("alice")[0].remaining for _ in range(3)] == [2, 1, 0]
    assert refused(limit).retry_after == pytest.approx(20)
    time.now += 19.9
    assert refused(limit).retry_after == pytest.approx(0.1)
    time.now += 0.1
    assert limit.take("alice")[0].remaining == 0
    time.now += 3600
    assert limit.take("alice")[0] == (("3/minute", 3, 60), 2, pytest.approx(20))


def test_one_caller_does_not_use_up_what_another_has() -> None:
    limit = RateLimit(["1/hour"], Time())
    limit.take("alice")

    assert limit.take("bob")[0].remaining == 0
    refused(limit, "alice")


def test_a_call_that_one_limit_refuses_takes_nothing_from_the_others() -> None:
    time = Time()
    limit = RateLimit(["1/second", "3/hour"], time)
    limit.take("alice")
    for _ in range(10):
        assert refused(limit).allowance[1].remaining == 2
    time.now += 1
    limit.take("alice")
    time.now += 1
    limit.take("alice")
    time.now += 1

    error = refused(limit)
    assert ("3/hour" in error.detail, error.retry_after > 1000) == (True, True)


@pytest.mark.parametrize(
    ("text", "calls", "window"),
    [
        ("100/minute", 100, 60),
        ("10 per second", 10, 1),
        ("500/10 minutes", 500, 600),
        ("1/Day", 1, 86_400),
        (" 5 / 2hours ", 5, 7200),
    ],
)
def test_a_limit_is_a_number_of_calls_and_a_window(text: str, calls: int, window: int) -> None:
    bucket = Bucket(text)
    assert bucket.policy[1:] == (calls, window)


@pytest.mark.parametrize(
    "text", ["", "100", "0/minute", "-1/minute", "1.5/minute", "10/fortnight", "ten/minute", "9" * 12 + "/day"]
)
def test_what_is_no_limit_is_told_with_the_form_that_is(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no rate limit: write how many calls"):
        RateLimit([text])


@given(calls=st.integers(1, 10**6), window=st.sampled_from(["second", "7 minutes", "day"]), start=st.floats(0, 10**7))
def test_a_full_bucket_gives_exactly_what_it_holds(calls: int, window: str, start: float) -> None:
    bucket = Bucket(f"{min(calls, 50)}/{window}")
    taken = 0
    while not bucket.lack("a", start):
        allowance = bucket.take("a", start)
        taken += 1
        assert allowance == bucket.left("a", start)
        assert allowance.remaining == bucket.policy.limit - taken
    assert taken == bucket.policy.limit


def test_callers_with_full_buckets_are_forgotten() -> None:
    bucket = Bucket("1000/second")
    for number in range(3 * SWEEP_AT):
        bucket.take(f"10.0.{number}", now=number)

    assert len(bucket) <= SWEEP_AT + 1


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    limit = RateLimit(["1/hour"], Time())
    limit.take("2001:db8:1:2::1")

    refused(limit, "2001:db8:1:2:ffff::9")
    assert limit.take("2001:db8:1:3::1")
    assert limit.take("::ffff:10.0.0.1")
    refused(limit, "10.0.0.1")
    assert limit.take("urn:user:alice")
