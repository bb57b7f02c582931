"""Of a flood of refusals, the most are counted: each caller's for itself, and when the minute is over, the counts are told."""

from __future__ import annotations

from typing import Any

import pytest

from portico.audit.refusals import EACH, MINUTE, OTHERS, PAYERS, Payer, Refusals
from portico.runs.auditor import Doer
from portico.testing.manual_clock import ManualClock

pytestmark = pytest.mark.anyio


def counting() -> tuple[Refusals, ManualClock, list[Any]]:
    clock, told = ManualClock(), list[Any]()
    return Refusals(clock, lambda payer, count: told.append((payer, count))), clock, told


def taken(refusals: Refusals, times: int, **doer: str) -> int:
    """How many of so many have entries of their own."""
    return sum(refusals.take(Doer(**doer)) for _ in range(times))


async def test_each_caller_has_a_count_of_its_own() -> None:
    refusals, clock, told = counting()
    assert taken(refusals, EACH + 5, principal="bob", address="192.0.2.1") == EACH
    assert taken(refusals, 5, principal="bob", address="192.0.2.2") == 0
    assert taken(refusals, EACH + 1, address="192.0.2.1") == EACH
    assert taken(refusals, EACH, principal="alice") == EACH
    assert told == []
    await clock.advance(MINUTE - 1)
    assert taken(refusals, 5, principal="bob") == 0
    assert told == []


async def test_what_has_no_entry_is_told_when_the_minute_is_over_though_nobody_else_is_refused() -> None:
    refusals, clock, told = counting()
    assert taken(refusals, 1, principal="alice") == 1
    await clock.advance(MINUTE / 2)
    assert taken(refusals, EACH + 10, principal="bob") == EACH
    assert taken(refusals, EACH + 1, address="192.0.2.1") == EACH
    await clock.advance(MINUTE / 2)
    assert told == [(Payer(principal="bob"), 10), (Payer(address="192.0.2.1"), 1)]
    assert clock.pending == 0
    assert taken(refusals, EACH, principal="bob") == EACH


async def test_what_has_no_entry_is_told_at_the_end_and_nothing_is_due_any_more() -> None:
    refusals, clock, told = counting()
    assert taken(refusals, EACH + 1, principal="bob") == EACH
    refusals.end()
    assert told == [(Payer(principal="bob"), 1)]
    assert clock.pending == 0


def test_addresses_of_one_ipv6_network_are_one_caller() -> None:
    refusals, _, told = counting()
    assert sum(taken(refusals, 1, address=f"2001:db8::{number:x}") for number in range(2 * EACH)) == EACH
    refusals.end()
    assert told == [(Payer(address="2001:db8::/64"), EACH)]


def test_more_callers_than_are_counted_share_one_count() -> None:
    refusals, _, told = counting()
    assert sum(taken(refusals, 1, address=f"host-{number}") for number in range(PAYERS + 2 * EACH)) == PAYERS + EACH
    assert taken(refusals, EACH, address="host-0") == EACH - 1
    refusals.end()
    refusals.end()
    assert told == [(Payer(address="host-0"), 1), (OTHERS, EACH)]
