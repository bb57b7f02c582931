"""A store in trouble: what `portico serve --data` answers, keeps and says while its disk is full, broken, or somebody else's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from portico.runs.book import MOST_ATTEMPTS
from tests.behaviours.lives import fill, life, mounted, remounted, until
from tests.cli.programs import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx


def refused_by_the_store(response: httpx.Response) -> bool:
    """Whether it is the problem that says: not stored, come again."""
    return (
        response.status_code == 503
        and response.headers["content-type"] == "application/problem+json"
        and response.json()["type"] == "/problems/store-unavailable"
        and int(response.headers["retry-after"]) >= 1
    )


def attempts(data: Path, run: str) -> tuple[str, int]:
    """The status of a run in a store that nobody has open, and how often its handling has begun."""
    with closing(sqlite3.connect(data / "portico.db")) as database:
        return database.execute("SELECT status, attempts FROM runs WHERE run_id = ?", (run,)).fetchone()


def set_attempts(data: Path, run: str, number: int) -> None:
    """As if its handling had begun so often."""
    with closing(sqlite3.connect(data / "portico.db")) as database:
        database.execute("UPDATE runs SET attempts = ? WHERE run_id = ?", (number, run))
        database.commit()


def exit_code(folder: Path) -> int:
    """Start a server that ends by itself, perhaps before it accepts connections."""
    command = [sys.executable, "-m", "portico", "serve", "topology.yaml", "--data", "data", "--port", "0"]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, timeout=30, check=False).returncode


# --- a disk that takes nothing ----------------------------------------------------------------------------------------


def test_what_must_be_stored_is_refused_while_the_disk_fails_and_everything_else_is_answered(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        assert one.ready().status_code == 200
        with one.short_of_disk():
            keyed = one.ask("echo", key="a-key")
            sent = one.ask("echo/cast")
            late = one.ask("echo", prefer="respond-async")
            run = one.http.post("/runs", json={"agent": "echo", "payload": {}})
            plain = one.ask("echo")
            ready, alive = one.ready(), one.http.get("/livez")
        until(lambda: one.ready().status_code == 200)
        after = one.ask("echo", key="a-key")

        assert [refused_by_the_store(one) for one in (keyed, sent, late, run)] == [True] * 4
        assert (plain.status_code, plain.json()) == (200, {"what": "it"})
        assert (ready.status_code, alive.status_code) == (503, 200)
        assert ready.json()["store"]["ready"] is False
        assert ready.json()["store"]["failure"] in keyed.json()["detail"]
        assert (after.status_code, after.headers.get("idempotency-replayed")) == (200, None)


def test_a_state_that_could_not_be_stored_is_refused_and_the_last_stored_one_goes_on(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        assert one.ask("desk/take", "stored").json() == 1
        with one.short_of_disk():
            lost = [one.ask("desk/take", "lost") for _ in range(12)]
            seen = one.ask("desk/look")
            status = one.http.get("/agents/desk").json()
        again = one.ask("desk/take", "after")
        one.kill()
    with life(tmp_path) as other:
        assert all(map(refused_by_the_store, lost))
        assert (seen.status_code, seen.json()) == (200, ["stored"])
        assert (status["status"], status["incarnation"], status["restarts"]) == ("running", 1, 0)
        assert (again.status_code, again.json()) == (200, 2)
        assert other.ask("desk/look").json() == ["stored", "after"]


def test_what_was_accepted_before_the_disk_failed_finishes_when_it_works_again(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        held = one.run("desk/hold", "first")
        waiting = [one.run("desk/take", f"number-{number}") for number in range(3)]
        one.events(held, until="inside")
        with one.short_of_disk():
            one.let("first")
            until(lambda: one.begun("first") > 1)  # handled again, since its end could not be stored
            during = one.read(held)
        records = [one.ended(run) for run in (held, *waiting)]

        assert during["status"] in ("queued", "running")
        # The places may have changed: what could not be stored comes back by its own timer. Nothing is lost, nothing doubled.
        taken = one.ask("desk/look").json()
        assert sorted(taken) == ["first", "number-0", "number-1", "number-2"]
        places = [taken.index(f"number-{number}") + 1 for number in range(3)]
        assert [record["output"] for record in records] == ["first is done", *places]


def test_what_must_not_be_handled_twice_is_not_though_its_end_could_not_be_stored(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("desk/pay", "bill")
        one.events(run, until="inside")
        with one.short_of_disk():
            one.let("bill")
            until(lambda: one.ready().status_code == 503)
            one.ask("desk/look")
        record = one.ended(run)

        assert one.begun("bill") == 1, record


def test_a_run_that_fails_while_the_disk_fails_has_one_end_which_is_told_once_it_is_stored(tmp_path: Path) -> None:
    with life(tmp_path) as one, ThreadPoolExecutor() as threads:
        run = one.run("desk/refuse", "letter")
        one.events(run, until="inside")
        followed = threads.submit(one.events, run)
        with one.short_of_disk():
            one.let("letter")
            until(lambda: one.ready().status_code == 503)
            during = one.read(run)["status"]
        told = followed.result(20)
        record = one.read(run)
        one.kill()
    with life(tmp_path) as other:
        assert (during, record["status"], other.read(run)["status"]) == ("running", "failed", "failed")
        assert told == other.events(run) == [(1, "run.started"), (2, "inside"), (3, "run.failed")]
        assert other.begun("letter") == 1


def test_a_run_that_is_cancelled_while_the_disk_fails_is_not_handled_after_a_restart(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("desk/hold", "letter")
        one.events(run, until="inside")
        with one.short_of_disk():
            cancelled = one.http.post(f"/runs/{run}/cancel")
        until(lambda: one.ready().status_code == 200)
        one.kill()
    with life(tmp_path) as other:
        record = other.read(run)

        if cancelled.status_code < 300:
            assert (record["status"], other.begun("letter")) == ("cancelled", 1), cancelled.text
        else:
            assert refused_by_the_store(cancelled)


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    if not mounted(place, "4m"):
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_as_such_and_room_is_used_within_seconds(tmp_path: Path, disk: Path) -> None:
    with life(tmp_path, data="disk/data") as one:
        one.ask("desk/take", "first")
        fill(disk / "filler")
        until(lambda: one.ask("desk/take", "x" * 5000, key="big").status_code == 503)
        ready = one.ready()
        plain = one.ask("echo")
        (disk / "filler").unlink()
        until(lambda: one.ready().status_code == 200)

        assert "the disk is full" in ready.json()["store"]["failure"]
        assert plain.status_code == 200
        assert one.ask("desk/look").json()[0] == "first"
        assert one.ask("echo", key="after").status_code == 200


def test_nothing_that_was_accepted_is_lost_by_a_kill_on_a_full_disk(tmp_path: Path, disk: Path) -> None:
    with life(tmp_path, data="disk/data") as one:
        held = one.run("desk/hold", "held")
        one.events(held, until="inside")
        fill(disk / "filler")
        answers = {
            f"number-{number}": one.ask("till/take/cast" if number % 2 else "till/take", "x" * 3000, key=f"number-{number}")
            for number in range(60)
        }
        refused = [key for key, answer in answers.items() if answer.status_code == 503]
        one.kill()
    assert remounted(disk, "size=16m")
    one.let("held")
    with life(tmp_path, data="disk/data") as other:
        assert refused
        assert other.ended(held)["output"] == "held is done"
        for key, answer in answers.items():
            if answer.status_code == 202:
                assert other.ended(answer.json()["run_id"])["status"] == "succeeded", key
            elif answer.status_code == 200:
                again = other.ask("till/take", "x" * 3000, key=key)
                assert (again.json(), again.headers["idempotency-replayed"]) == (answer.json(), "true")
            else:
                assert refused_by_the_store(answer), answer.text


# --- a handler that ends the program ----------------------------------------------------------------------------------


def test_a_handler_that_ends_the_program_at_once_is_counted_from_its_second_time_on(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("poison/drink", "poison")
        one.process.wait(10)
    assert [exit_code(tmp_path), exit_code(tmp_path)] == [9, 9]

    status, number = attempts(tmp_path / "data", run)
    assert len([*(tmp_path / "begun").iterdir()]) == 3
    assert status == "running"
    assert 2 <= number <= 3  # a run's first handling does not wait until it is stored that it has begun


def test_a_handler_that_ends_the_program_is_given_up_as_a_dead_letter(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("poison/sip", "poison")
        one.process.wait(10)
    set_attempts(tmp_path / "data", run, MOST_ATTEMPTS - 1)
    assert exit_code(tmp_path) == 9
    with life(tmp_path) as three:
        record = three.ended(run)
        letters = three.http.get("/dead-letters").json()["dead_letters"]

        assert (record["status"], record["error"]["slug"]) == ("failed", "interrupted")
        assert f"ended {MOST_ATTEMPTS} times" in record["error"]["detail"]
        assert [letter["run_id"] for letter in letters] == [run]
        assert three.begun("poison") == 2
        assert three.ask("echo").status_code == 200


# --- other agents while the disk fails --------------------------------------------------------------------------------


def test_records_suspensions_and_agents_that_start_anew_go_on_while_the_disk_fails(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        assert one.ask("session/take", "crimson").json() == 1
        one.ask("desk/take", "first")
        until(lambda: "crimson" not in one.http.get("/agents").text)
        with one.short_of_disk():
            kept = one.ask("desk/keep", "paper")
            woken = one.ask("session/look", "crimson")
            fallen = one.ask("till/fall")
            after = one.ask("till/kept")
            waits = one.ask("desk/approve", "question", key="a-key")
            status = {name: one.http.get(f"/agents/{name}").json()["status"] for name in ("desk", "till", "echo")}
        until(lambda: one.ready().status_code == 200)

        assert refused_by_the_store(kept), kept.text
        assert (woken.status_code, woken.json()) == (200, ["crimson"])
        assert (fallen.status_code, after.status_code) == (502, 200)
        assert refused_by_the_store(waits)
        assert status == {"desk": "running", "till": "running", "echo": "running"}
        assert one.ask("desk/kept").json() == {}
        assert one.ask("session/take", "crimson").json() == 2
        one.kill()
        one.process.communicate()  # the log has a traceback: of the handler that crashed


def test_an_answer_that_could_not_be_stored_is_refused_and_can_be_given_again(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("desk/approve", "question")
        one.events(run, until="run.waiting")
        with one.short_of_disk():
            refused = one.http.post(f"/runs/{run}/input", json={"yes": 1})
            during = one.read(run)["status"]
        until(lambda: one.ready().status_code == 200)
        answered = one.http.post(f"/runs/{run}/input", json={"yes": 2})

        assert refused_by_the_store(refused), refused.text
        assert during == "waiting"
        assert answered.status_code == 200
        assert one.ended(run)["output"] == {"yes": 2}
        events = one.events(run)
        assert [number for number, _ in events] == list(range(1, len(events) + 1))
        assert [kind for _, kind in events].count("run.resumed") == 1, events


def test_a_run_that_begins_to_wait_while_the_disk_fails_is_answered_once_it_works_again(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("till/ponder", "question")
        one.events(run, until="inside")
        with one.short_of_disk():
            one.let("question")
            until(lambda: one.ready().status_code == 503)
        until(lambda: one.ready().status_code == 200)
        until(lambda: one.read(run)["status"] == "waiting")
        answer = one.http.post(f"/runs/{run}/input", json={"yes": 1})
        record = one.ended(run)
        events = one.events(run)

        assert (answer.status_code, record["output"]) == (200, {"yes": 1})
        assert [kind for _, kind in events] == ["run.started", "inside", "run.waiting", "run.resumed", "run.succeeded"]


def test_who_follows_a_run_sees_what_it_emitted_while_the_disk_failed_once_it_works_again(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("till/ponder", "question")
        one.events(run, until="inside")
        with one.short_of_disk():
            one.let("question")
            until(lambda: one.ready().status_code == 503)
        until(lambda: one.ready().status_code == 200)

        assert [kind for _, kind in one.events(run, until="run.waiting", within=10)][-1:] == ["run.waiting"]
        one.kill()
    with life(tmp_path) as other:
        assert other.read(run)["status"] == "waiting"
