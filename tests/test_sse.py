from __future__ import annotations

import pytest

from portico import sse
from portico.sse import EventDecoder, ServerSentEvent


def decoded(*chunks: bytes) -> list[str]:
    decoder = EventDecoder()
    return [event.data for event in (*(event for chunk in chunks for event in decoder.feed(chunk)), *decoder.end())]


def test_an_event_ends_with_an_empty_line() -> None:
    assert decoded(b"data: a\ndata: b\n\ndata:c\n\n") == ["a\nb", "c"]


def test_comments_other_fields_and_events_without_data_are_passed_over() -> None:
    assert decoded(b": ping\n\nevent: x\nid: 1\n\ndata: a\nretry: 1\n\n") == ["a"]


def test_the_last_event_needs_no_end() -> None:
    assert decoded(b"data: a\n\nda", b"ta: b") == ["a", "b"]


def test_only_line_feeds_and_carriage_returns_end_a_line() -> None:
    assert decoded("data: a\u2028b\x85c\x0cd\r\n\r\n".encode()) == ["a\u2028b\x85c\x0cd"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize("width", [1, 2, 3, 1000])
def test_events_arrive_in_any_pieces_with_any_ends_of_lines(width: int, end: str) -> None:
    lines = [
        "\ufeff: hello",
        "",
        "id: 1",
        "event: é",
        "data: a\u2028b",
        "data:c",
        "retry: 1",
        "",
        "id: 2",
        "",
        "data: d",
        "",
        "data: cut",
    ]
    text = end.join(lines).encode()
    decoder = EventDecoder()

    found = [event for start in range(0, len(text), width) for event in decoder.feed(text[start : start + width])]

    assert found == [ServerSentEvent("a\u2028b\nc", "é", "1"), ServerSentEvent("d")]


@pytest.mark.parametrize("piece", [b"x", b"data: x\n"], ids=["one line", "many lines"])
def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(sse, "LONGEST", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        decoded(*[piece] * 2000)


def test_a_long_stream_of_short_events_is_not_one_long_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST", 100)
    assert len(decoded(*[b"data: 12345678\n\n"] * 1000)) == 1000
