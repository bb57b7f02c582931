"""Following a run over several connections, and the events that they carry."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from portico.cli import following
from portico.cli.following import Following, lines, parsed
from portico.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

STARTED: dict[str, Any] = {"seq": 1, "type": "run.started", "at": None, "data": {}}
ENDED: dict[str, Any] = {"seq": 2, "type": "run.succeeded", "at": None, "data": {}}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAUSE", 0.0)


class Server:
    """What each connection brings: events, and what ends it."""

    def __init__(self, *connections: list[Any]) -> None:
        self.connections = list(connections)
        self.asked_after: list[int] = []
        self.lost = 0

    def notice(self) -> None:
        self.lost += 1

    @contextmanager
    def connect(self, after: int, silence: float) -> Generator[Iterator[dict[str, Any]]]:
        del silence
        self.asked_after.append(after)
        parts = self.connections.pop(0) if self.connections else [CallError("Nobody there.", status=0)]
        if parts and isinstance(parts[0], CallError):
            raise parts[0]
        yield self._brought(parts)

    def _brought(self, parts: list[Any]) -> Iterator[dict[str, Any]]:
        for part in parts:
            if isinstance(part, Exception):
                raise part
            yield part

    def follow(self) -> list[dict[str, Any]]:
        return list(Following(self.connect, self.notice).events())


@pytest.mark.parametrize("end", [[], [httpx.ReadError("cut")], [httpx.ReadTimeout("silent")]])
def test_after_a_lost_connection_it_asks_for_what_comes_after_the_last_event(end: list[Any]) -> None:
    server = Server([STARTED, *end], [CallError("Draining.", status=503)], [ENDED])

    assert server.follow() == [STARTED, ENDED]
    assert server.asked_after == [0, 1, 1]
    assert server.lost == 1


def test_it_gives_up_where_nobody_answers_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PATIENCE", 0.0)
    server = Server([STARTED])

    with pytest.raises(CallError, match=r"no gateway has answered for 0 s\. Nobody there\."):
        server.follow()


@pytest.mark.parametrize("status", [0, 401, 404, 503])
def test_what_was_never_there_is_not_waited_for(status: int) -> None:
    server = Server([CallError("No.", status=status)])

    with pytest.raises(CallError, match="No"):
        server.follow()
    assert server.lost == 0


def test_a_run_that_is_gone_after_a_lost_connection_is_not_waited_for() -> None:
    server = Server([STARTED], [CallError("No such run.", status=404)])

    with pytest.raises(CallError, match="No such run"):
        server.follow()


def test_an_agents_own_event_that_is_called_a_gap_has_a_number() -> None:
    stream = (
        b': hello\n\nid: 1\nevent: gap\ndata: {"seq":1,"data":2}\n\nevent: gap\ndata: {"from":2,"to":4}\n\n'
        b'event: stream.draining\ndata: {"last_event_id":4}\n\n'
        b'id: 5\nevent: x\ndata: {"seq":5,"at":"2026-01-01T00:00:00Z","data":null}\n\n'
    )

    assert list(parsed(lines([stream]))) == [
        {"seq": 1, "type": "gap", "at": None, "data": 2},
        {"seq": None, "type": "gap", "at": None, "data": {"from": 2, "to": 4}},
        {"seq": 5, "type": "x", "at": "2026-01-01T00:00:00Z", "data": None},
    ]


@pytest.mark.parametrize("width", [1, 2, 3, 1000])
def test_events_arrive_in_any_pieces(width: int) -> None:
    text = 'id: 1\nevent: é\ndata: {"seq":1,"data":"a\u2028b\u0085c"}\n\n'.encode()
    pieces = [text[start : start + width] for start in range(0, len(text), width)]

    assert list(parsed(lines(pieces))) == [{"seq": 1, "type": "é", "at": None, "data": "a\u2028b\u0085c"}]
