"""Callbacks over lives of the server: whoever kills it when, the end of each run is told at least once, under one id."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

import pytest

from portico.webhooks.signature import verify
from tests.behaviours.lives import life, until
from tests.webhooks.receivers import SECRET

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.behaviours.lives import Life

pytestmark = pytest.mark.timeout(180)

SETTINGS = {"PORTICO_CALLBACK_SECRET": SECRET, "PORTICO_CALLBACK_ALLOWED_HOSTS": "127.0.0.1"}


class Receiver(ThreadingHTTPServer):
    """Keeps what comes, and answers with `status`, while it is not `silent`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.heard = threading.Event()
        self.heard.set()
        self.told: list[tuple[str, str]] = []
        """The id and the type of each."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}/hook"

    def until_told(self, count: int) -> None:
        """Until so many have come."""
        until(lambda: len(self.told) >= count)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        receiver = cast("Receiver", self.server)
        body = self.rfile.read(int(self.headers["content-length"]))
        verify(SECRET, {name.lower(): value for name, value in self.headers.items()}, body)
        receiver.told.append((self.headers["webhook-id"], body.decode().split('"')[3]))
        receiver.heard.wait()
        self.send_response(receiver.status)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the standard library's
        """Say nothing."""


@contextmanager
def receiving() -> Generator[Receiver]:
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.heard.set()
            receiver.shutdown()
            thread.join()


def a_life(folder: Path) -> AbstractContextManager[Life]:
    return life(folder, env=SETTINGS)


def callback(server: Life, run: str) -> dict[str, Any]:
    return server.read(run, wait=10)["callback"]


def test_an_end_that_nobody_had_heard_of_at_a_kill_is_told_by_the_next_life(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.heard.clear()
        with a_life(tmp_path) as one:
            run = one.run("desk/take", callback_url=receiver.url)
            receiver.until_told(1)
            pending = callback(one, run)
            one.kill()
        receiver.heard.set()
        with a_life(tmp_path) as other:
            until(lambda: callback(other, run)["status"] == "delivered")
            told = list(receiver.told)
            other.kill()
        with a_life(tmp_path) as third:  # and it is not told again
            assert callback(third, run)["status"] == "delivered"
            later = third.run("desk/take", callback_url=receiver.url)
            until(lambda: callback(third, later)["status"] == "delivered")
        assert (pending["status"], pending["attempts"]) == ("pending", 0)
        assert told == [(f"msg_{run}", "run.succeeded")] * 2
        assert receiver.told[2:] == [(f"msg_{later}", "run.succeeded")]


def test_a_kill_after_an_attempt_that_failed_changes_nothing_of_what_is_due(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.status = 500
        with a_life(tmp_path) as one:
            run = one.run("desk/take", callback_url=receiver.url)
            until(lambda: callback(one, run)["attempts"] == 1)
            before = callback(one, run)
            one.kill()
        receiver.status = 200
        with a_life(tmp_path) as other:
            taken_up = callback(other, run)
            until(lambda: callback(other, run)["status"] == "delivered")
            after = callback(other, run)
        assert (before["last_status"], before["status"]) == (500, "pending")
        assert taken_up == before or taken_up["attempts"] == 2
        assert (after["attempts"], after["delivered_at"] >= before["next_at"]) == (2, True)
        assert receiver.told == [(f"msg_{run}", "run.succeeded")] * 2


def test_the_end_of_each_run_is_told_whenever_the_server_is_killed(tmp_path: Path) -> None:
    with receiving() as receiver:
        runs: list[str] = []
        for count in (3, 9, 17):
            with a_life(tmp_path) as one:
                runs += [one.run("desk/take", callback_url=receiver.url) for _ in range(count)]
                receiver.until_told(len(runs) // 2)
                one.kill()
        with a_life(tmp_path) as last:
            until(lambda: all(callback(last, run)["status"] == "delivered" for run in runs))
        assert {told for told, _ in receiver.told} == {f"msg_{run}" for run in runs}
