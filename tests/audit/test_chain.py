"""The chain tells whatever was done to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.audit.chain import canonical, head_of, line, shown
from portico.audit.verification import Verdict, Verification
from portico.runs.audit_entry import GENESIS, AuditAction, ChainHead
from tests.audit.entries import a_chain, an_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

CHAIN = a_chain(*(an_entry(number) for number in range(1, 7)))


def verdict(lines: Iterable[bytes], head: str | None = None, *, partly: bool = False) -> Verdict:
    verification = Verification(head, partly=partly)
    for one in lines:
        verification.add_line(one)
    return verification.verdict()


def test_a_whole_chain_is_found_whole() -> None:
    found = verdict(map(line, CHAIN), CHAIN[2].hash)
    assert found == Verdict(6, 1, 6, CHAIN[-1].hash, None)


def test_an_empty_chain_is_whole() -> None:
    assert verdict([]) == Verdict(0, 0, 0, GENESIS, None)


def test_an_entry_is_hashed_as_rfc_8785_has_it() -> None:
    assert canonical({"b": 1, "a": '\x00\x1f\n"\\/é\x7f', "c": [True, None]}) == (
        b'{"a":"\\u0000\\u001f\\n\\"\\\\/\xc3\xa9\x7f","b":1,"c":[true,null]}'
    )


def test_a_line_has_the_fields_that_are_documented() -> None:
    assert shown(CHAIN[0]) == {
        "v": 1,
        "alg": "sha256",
        "seq": 1,
        "at": "2027-01-15T08:00:01.000000Z",
        "action": "agent.restart",
        "outcome": "ok",
        "principal": "alice",
        "address": "192.0.2.7",
        "face": "http",
        "agent": "echo",
        "operation": "say",
        "run_id": "run-1",
        "request_id": "request-1",
        "trace_id": "00000000000000000000000000000001",
        "duration_us": 1,
        "details": {"reason": "é\u2028\x7f", "count": 1, "sure": True, "nothing": None},
        "prev": GENESIS,
        "hash": CHAIN[0].hash,
    }


@pytest.mark.parametrize("name", [*shown(CHAIN[0]), "details.reason", "more"])
def test_a_change_of_any_field_is_found_where_it_was_made(name: str) -> None:
    lines = [json.loads(line(sealed)) for sealed in CHAIN]
    field, _, inner = name.partition(".")
    if inner:
        lines[2][field][inner] = "other"
    else:
        was: Any = lines[2].get(field)
        lines[2][field] = was + 1 if isinstance(was, int) else f"{was}0"
    found = verdict(json.dumps(one).encode() + b"\n" for one in lines)
    assert found.fault is not None
    assert found.fault.place == 2
    assert found.entries == 2


@pytest.mark.parametrize("place", range(1, 5))
def test_a_removed_entry_is_found(place: int) -> None:
    found = verdict(line(sealed) for index, sealed in enumerate(CHAIN) if index != place)
    assert found.fault is not None
    assert found.fault.seq == CHAIN[place].seq + 1
    assert "removed" in found.fault.reason


def test_a_chain_without_its_beginning_is_found_unless_a_part_was_wanted() -> None:
    found = verdict(map(line, CHAIN[2:]))
    assert found.fault is not None
    assert found.fault.seq == 3
    assert verdict(map(line, CHAIN[2:]), partly=True).fault is None


def test_entries_that_changed_places_are_found() -> None:
    moved = [CHAIN[0], CHAIN[2], CHAIN[1], *CHAIN[3:]]
    found = verdict(map(line, moved))
    assert found.fault is not None
    assert found.fault.place == 1


def test_an_entry_that_was_put_in_is_found() -> None:
    (forged,) = a_chain(an_entry(9), head=head_of(CHAIN[1]))
    found = verdict(map(line, [*CHAIN[:2], forged, *CHAIN[2:]]))
    assert found.fault is not None
    assert found.fault.place == 3


def test_a_chain_that_was_written_anew_from_some_place_does_not_have_a_head_that_was_noted() -> None:
    rewritten = [*CHAIN[:3], *a_chain(*(an_entry(number, agent="other") for number in range(4, 7)), head=head_of(CHAIN[2]))]
    assert verdict(map(line, rewritten)).fault is None  # whoever writes it anew can: hence the head
    found = verdict(map(line, rewritten), CHAIN[4].hash)
    assert found.fault is not None
    assert "written anew" in found.fault.reason


def test_entries_that_are_cut_off_at_the_end_are_missed_where_a_head_was_noted() -> None:
    assert verdict(map(line, CHAIN[:4])).fault is None
    found = verdict(map(line, CHAIN[:4]), CHAIN[5].hash)
    assert found.fault is not None
    assert "cut" in found.fault.reason


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (line(CHAIN[2])[:-1], "cut short"),
        (line(CHAIN[2])[:-9] + b"\n", "no JSON"),
        (b"[]\n", "no JSON object"),
        (b"{}\n", "no seq"),
        (b'{"action":"call",' + line(CHAIN[2])[1:], "stands in it twice"),
        (line(CHAIN[2]).replace(b'"v":1', b'"v":2'), "of version 2"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b"\xff\n", "no JSON"),
    ],
)
def test_a_line_that_is_no_entry_is_told(last: bytes, reason: str) -> None:
    found = verdict([line(CHAIN[0]), line(CHAIN[1]), last])
    assert found.fault is not None
    assert found.fault.place == 2
    assert reason in found.fault.reason


def test_entries_that_the_gateway_itself_has_removed_are_not_missed() -> None:
    about = {"through": 3, "hash": CHAIN[2].hash, "count": 3}
    pruned = a_chain(an_entry(7, action=AuditAction.PRUNED, details=about), head=head_of(CHAIN[-1]))
    assert verdict(map(line, [*CHAIN[3:], *pruned])).fault is None
    for other in ([*CHAIN[4:], *pruned], [*CHAIN[2:], *pruned]):
        found = verdict(map(line, other))
        assert found.fault is not None
        assert found.fault.place == 0


@given(text=st.text(max_size=20), number=st.integers(-(2**53) + 1, 2**53 - 1), head=st.integers(0, 2**40))
def test_whatever_is_in_an_entry_it_comes_back_from_its_line_and_fits(text: str, number: int, head: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    entry = an_entry(agent=text, details={"text": text, "number": number})
    (sealed,) = a_chain(entry, head=ChainHead(head, "f" * 64))
    one = line(sealed)
    assert one.count(b"\n") == 1
    assert json.loads(one) == shown(sealed)
    assert verdict([one], partly=True).fault is None
