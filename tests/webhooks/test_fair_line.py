"""The fair line: each host has its turn, few of one are under way at once, and nobody is lost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from portico.webhooks.fair_line import FairLine


def test_each_host_has_its_turn() -> None:
    line = FairLine(10, 10)
    for item in ("a1", "a2", "a3", "b1", "c1", "a1"):
        line.put(item[0], item)
    assert [line.take() for _ in range(6)] == [("a", "a1"), ("b", "b1"), ("c", "c1"), ("a", "a2"), ("a", "a3"), None]


def test_a_host_with_enough_under_way_waits_and_the_others_do_not() -> None:
    line = FairLine(10, 2)
    for item in ("a1", "a2", "a3", "b1"):
        line.put(item[0], item)
    assert [line.take() for _ in range(4)] == [("a", "a1"), ("b", "b1"), ("a", "a2"), None]
    line.done("a")
    assert line.take() == ("a", "a3")


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 20)) | st.none(), max_size=100),
    st.integers(1, 6),
    st.integers(1, 3),
)
def test_nobody_is_lost_and_no_bound_is_passed(moves: list[tuple[str, int] | None], at_once: int, of_one_host: int) -> None:
    line = FairLine(at_once, of_one_host)
    put: set[str] = set()
    taken: list[str] = []
    under_way: list[str] = []

    def take() -> None:
        while (found := line.take()) is not None:
            under_way.append(found[0])
            taken.append(found[1])
        assert len(under_way) <= at_once
        assert max(Counter(under_way).values(), default=0) <= of_one_host

    for move in moves:
        if move is None:
            take()
            if under_way:
                line.done(under_way.pop(0))
        elif f"{move[0]}{move[1]}" not in put:
            put.add(f"{move[0]}{move[1]}")
            line.put(move[0], f"{move[0]}{move[1]}")
    take()
    while under_way:
        line.done(under_way.pop())
        take()
    assert sorted(taken) == sorted(put)
    assert len(line) == 0
