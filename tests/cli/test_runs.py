"""`portico runs`: against a server process, and against the data directory that it uses or has left."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.desk import data, ended, furnished, house, printed, start, until
from tests.cli.programs import environment, portico, refused
from tests.webhooks.receivers import SECRET

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, str]]:
    """A folder and an address: `done` and its child have succeeded, `lost` has failed, `asks` waits. Nothing is added."""
    folder = furnished(tmp_path_factory.mktemp("house"))
    with house(folder) as (_, url):
        ended(url, start(url, "editor", {"title": "News"}, "done"))
        ended(url, httpx.get(f"{url}/runs?parent=done", trust_env=False).json()["runs"][0]["run_id"])
        ended(url, start(url, "press", {"sheets": "x" * 500}, "lost"))
        until(url, start(url, "editor", {"title": "Rumours", "ask": True}, "asks"), "run.waiting")
        yield folder, url


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, str]]:
    """A folder and an address, where tests start runs of their own."""
    folder = furnished(tmp_path_factory.mktemp("house"))
    with house(folder) as (_, url):
        yield folder, url


@pytest.fixture(params=["server", "directory"])
def source(request: pytest.FixtureRequest, served: tuple[Path, str]) -> tuple[Path, list[str]]:
    """The same runs, over HTTP and from the data directory beside the running server."""
    folder, url = served
    return folder, ["--url", url] if request.param == "server" else ["--data", "data"]


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_prints_a_line_for_each_run_the_newest_first(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    head, *lines = printed("runs", "list", *where, folder=folder).splitlines()

    assert head.split() == ["RUN", "STATUS", "AGENT", "OPERATION", "ACCEPTED", "TOOK"]
    assert [line.split()[1:4] for line in lines] == [
        ["waiting", "editor", "publish"],
        ["failed", "press", "press"],
        ["succeeded", "printer", "print_it"],
        ["succeeded", "editor", "publish"],
    ]
    assert len({line.index(" UTC") for line in lines}) == 1


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--status", "failed"], ["lost"]),
        (["--agent", "editor"], ["asks", "done"]),
        (["--agent", "editor", "--limit", "1"], ["asks"]),
        (["--agent", "nobody"], []),
    ],
)
def test_list_finds_runs_by_status_and_agent(source: tuple[Path, list[str]], options: list[str], found: list[str]) -> None:
    folder, where = source

    assert [run["run_id"] for run in data("runs", "list", *options, *where, folder=folder)] == found


def test_list_finds_the_runs_that_a_run_sent(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    (child,) = data("runs", "list", "--parent", "done", *where, folder=folder)

    assert (child["agent"], child["parent_id"], child["input"]) == ("printer", "done", {"text": "NEWS"})


def test_where_there_are_none_list_says_so(source: tuple[Path, list[str]]) -> None:
    folder, where = source

    assert printed("runs", "list", "--agent", "nobody", *where, folder=folder) == "No runs.\n"


def test_more_runs_than_a_server_lists_at_once_are_listed(busy: tuple[Path, str]) -> None:
    folder, url = busy
    with httpx.Client(base_url=url, trust_env=False) as client:
        for number in range(502):
            client.post("/runs", json={"agent": "bell", "run_id": f"ring{number}"}).raise_for_status()
    found = data("runs", "list", "--agent", "bell", "--limit", "1000", "--url", url, folder=folder)

    assert len({run["run_id"] for run in found}) == 502


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_tells_the_story_of_a_run(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    text = printed("runs", "show", "done", *where, folder=folder)
    told = [re.sub(r"^ +[0-9.]+ s  ", "  ", line).strip() for line in text.splitlines() if line.startswith("  ")]

    assert re.search(r"^agent +editor, operation publish$", text, re.MULTILINE)
    assert re.search(r"^status +succeeded$", text, re.MULTILINE)
    assert re.search(r"^ended +.* UTC, after [0-9.]+ s$", text, re.MULTILINE)
    assert re.search(r"^attempts +1$", text, re.MULTILINE)
    assert re.search(r'^input +\{"title": "News"\}$', text, re.MULTILINE)
    assert re.search(r'^output +"NEWS"$', text, re.MULTILINE)
    assert told[-7:] == [
        "accepted for editor, operation publish",
        "step fetch: begun",
        "step fetch: attempt 1 failed and is made again: RuntimeError: no paper",
        "step fetch: done",
        "progress 1 of 2: written",
        'mood: {"good": true}',
        'succeeded: "NEWS"',
    ]


def test_show_draws_the_family_of_a_run(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    (child,) = data("runs", "list", "--parent", "done", *where, folder=folder)
    of_parent = printed("runs", "show", "done", *where, folder=folder)
    of_child = printed("runs", "show", child["run_id"], *where, folder=folder)

    assert f"└─ {child['run_id']}  printer  print_it  succeeded\n" in of_parent
    assert "family     done  editor  publish  succeeded  <- this run\n" in of_parent
    assert f"└─ {child['run_id']}  printer  print_it  succeeded  <- this run\n" in of_child
    assert "family     done  editor  publish  succeeded\n" in of_child


def test_show_tells_why_a_run_failed_and_says_what_it_cuts(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    text = printed("runs", "show", "lost", *where, folder=folder)

    assert re.search(r"^problem +Agent 'press' crashed 4 times .*\(agent-crashed\)$", text, re.MULTILINE)
    assert re.search(r'^input +\{"sheets": "x+… \(cut: 514 characters\)$', text, re.MULTILINE)
    assert max(map(len, text.splitlines())) < 250


def test_show_tells_what_a_run_waits_for_and_how_to_answer(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    text = printed("runs", "show", "asks", *where, folder=folder)

    assert re.search(r"^ .*waits for an answer: Print it\?$", text, re.MULTILINE)
    assert re.search(r"^waits +for an answer: Print it\?$", text, re.MULTILINE)
    assert "portico runs input asks JSON" in text


def test_show_prints_record_events_and_children_for_a_program(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    told = data("runs", "show", "done", *where, folder=folder)

    assert set(told) == {"record", "events", "children"}
    assert (told["record"]["run_id"], told["record"]["output"]) == ("done", "NEWS")
    assert [event["seq"] for event in told["events"]] == list(range(1, len(told["events"]) + 1))
    assert [told["events"][0]["type"], told["events"][-1]["type"]] == ["run.started", "run.succeeded"]
    assert [child["agent"] for child in told["children"]] == ["printer"]


def test_a_data_directory_tells_when_each_event_was(served: tuple[Path, str]) -> None:
    text = printed("runs", "show", "done", "--data", "data", folder=served[0])

    assert re.search(r"^ +0\.00 s  accepted for editor", text, re.MULTILINE)


# --- follow -----------------------------------------------------------------------------------------------------------


def test_follow_prints_the_events_of_a_run_that_has_ended(served: tuple[Path, str]) -> None:
    folder, url = served
    lines = printed("runs", "follow", "done", "--url", url, "--json", folder=folder).splitlines()

    assert [json.loads(line)["type"] for line in lines][-2:] == ["mood", "run.succeeded"]


def test_the_exit_code_of_follow_tells_that_a_run_has_not_succeeded(served: tuple[Path, str]) -> None:
    folder, url = served
    result = portico("runs", "follow", "lost", "--url", url, folder=folder)

    assert result.returncode == 1
    assert result.stderr == ""
    assert "failed: Agent 'press' crashed 4 times" in result.stdout


@contextmanager
def following(folder: Path, run_id: str, url: str) -> Generator[subprocess.Popen[str]]:
    """`portico runs follow`, while it runs."""
    command = [sys.executable, "-m", "portico", "runs", "follow", run_id, "--url", url]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_to(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines that it prints, to the first one with that text."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or text not in lines[-1]:
        line = process.stdout.readline()
        assert line, lines
        lines.append(line.strip())
    return lines


def test_follow_goes_on_after_a_kill_of_the_server_and_prints_nothing_twice(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder) as (server, url):
        start(url, "editor", {"title": "News", "ask": True}, "r")
        with following(folder, "r", url) as process:
            before = read_to(process, "waits for an answer")
            server.kill()
            assert process.stderr is not None
            lost = process.stderr.readline()
            with house(folder, port=url.rpartition(":")[2]):
                printed("runs", "input", "r", '{"yes": "fine"}', "--url", url, folder=folder)
                after, stderr = process.communicate(timeout=30)

    assert lost == "portico: The connection was lost. Trying again …\n"
    assert len(before) == 7
    assert "goes on: the answer has come" in after.splitlines()[0]
    assert 'succeeded: "NEWS, fine"' in after.splitlines()[-1]
    assert "progress" not in after
    assert (process.returncode, stderr) == (0, "")


def test_follow_goes_on_after_the_server_was_drained(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder) as (server, url):
        start(url, "editor", {"title": "News", "ask": True}, "r")
        with following(folder, "r", url) as process:
            read_to(process, "waits for an answer")
            server.terminate()
            assert server.wait(20) == 0
            with house(folder, port=url.rpartition(":")[2]):
                printed("runs", "cancel", "r", "--url", url, folder=folder)
                after, stderr = process.communicate(timeout=30)

    assert [line.split()[2] for line in after.splitlines()] == ["cancelled:"]  # after the time since the start, in s
    assert process.returncode == 1
    assert stderr.count("The connection was lost") == 1


# --- cancel and input -------------------------------------------------------------------------------------------------


def test_cancel_ends_a_run_and_tells_of_one_that_has_ended(busy: tuple[Path, str]) -> None:
    folder, url = busy
    start(url, "reader", {}, "long")
    ended(url, start(url, "printer", {"text": "x"}, "short"))
    text = printed("runs", "cancel", "long", "--url", url, folder=folder)

    assert text == "Run long is cancelled.\n"
    assert ended(url, "long")["status"] == "cancelled"
    assert "it has ended before (succeeded)" in refused("runs", "cancel", "short", "--url", url, folder=folder)


@pytest.mark.parametrize(("argument", "stdin"), [('{"yes": "sí"}', b""), ("-", '{"yes": "sí"}'.encode())])
def test_input_answers_a_run_from_the_command_line_or_standard_input(busy: tuple[Path, str], argument: str, stdin: bytes) -> None:
    folder, url = busy
    run_id = start(url, "editor", {"title": "News", "ask": True}, f"in{len(stdin)}")
    until(url, run_id, "run.waiting")
    text = printed("runs", "input", run_id, argument, "--url", url, folder=folder, stdin=stdin)

    assert text == f"Run {run_id} goes on.\n"
    assert ended(url, run_id)["output"] == "NEWS, sí"


@pytest.mark.parametrize(
    ("run_id", "value", "text"),
    [
        ("asks", "{", "The answer is not JSON"),
        ("asks", "NaN", "The answer is not JSON"),
        ("asks", '{"no": 1}', "'yes' is a required property"),
        ("done", "{}", "it waits for no input"),
        ("nobody", "{}", "There is no run 'nobody'"),
    ],
)
def test_an_answer_that_cannot_be_is_a_sentence(served: tuple[Path, str], run_id: str, value: str, text: str) -> None:
    folder, url = served

    assert text in refused("runs", "input", run_id, value, "--url", url, folder=folder)


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_dead_letters_lists_what_was_given_up_with_the_reason(source: tuple[Path, list[str]]) -> None:
    folder, where = source
    _, line = printed("runs", "dead-letters", *where, folder=folder).splitlines()
    (letter,) = data("runs", "dead-letters", "--agent", "press", *where, folder=folder)

    assert line.startswith("lost")
    assert line.endswith("Agent 'press' crashed 4 times on this message (RuntimeError).")
    assert (letter["id"], letter["attempts"]) == ("lost", 4)
    assert printed("runs", "dead-letters", "--agent", "editor", *where, folder=folder) == "No dead letters.\n"


def test_redrive_sends_one_or_all_again_as_new_runs(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder) as (_, url):
        for run_id in ("a", "b", "c"):
            ended(url, start(url, "press", {}, run_id))
        (folder / "mended").touch()
        one = printed("runs", "redrive", "b", "--url", url, folder=folder)
        every = printed("runs", "redrive", "--all", "--url", url, folder=folder)
        none = printed("runs", "redrive", "--all", "--url", url, folder=folder)
        again = ended(url, one.split()[-1].rstrip("."))

    assert one.startswith("b is sent again as run ")
    assert [line.split()[0] for line in every.splitlines()] == ["a", "c", "2"]
    assert none == "No dead letters.\n"
    assert again["output"] == "pressed"


def test_show_tells_how_far_a_callback_has_come_and_redeliver_sends_it_again(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    closed = "http://127.0.0.1:9/hook"  # the port of RFC 863, which nobody serves
    settings = {"PORTICO_CALLBACK_SECRET": SECRET, "PORTICO_CALLBACK_ALLOWED_HOSTS": "127.0.0.1:9"}
    with house(folder, env=settings) as (_, url):
        body = {"agent": "printer", "payload": {"text": "x"}, "run_id": "told", "callback_url": closed}
        httpx.post(f"{url}/runs", json=body, trust_env=False).raise_for_status()
        ended(url, start(url, "printer", {"text": "x"}, "untold"))
        while not ended(url, "told")["callback"]["attempts"]:  # nothing tells of an attempt
            pass
        shown = [printed("runs", "show", "told", *where, folder=folder) for where in (("--url", url), ("--data", "data"))]
        without = printed("runs", "show", "untold", "--url", url, folder=folder)
        again = printed("runs", "redeliver", "told", "--url", url, folder=folder)
        refusal = refused("runs", "redeliver", "untold", "--url", url, folder=folder)

    for text in shown:
        assert re.search(
            rf"^callback +pending: {closed}\n +attempts: 1\n +There was no connection.*\n +again at ", text, re.MULTILINE
        )
    assert "callback" not in without
    assert again == "The callback of run told is sent again.\n"
    assert "it has no callback." in refusal


def test_redrive_of_what_is_no_dead_letter_is_a_sentence(served: tuple[Path, str]) -> None:
    folder, url = served

    assert "'done'" in refused("runs", "redrive", "done", "--url", url, folder=folder)
    assert "--all" in refused("runs", "redrive", "--url", url, folder=folder)
    assert "--all" in refused("runs", "redrive", "x", "--all", "--url", url, folder=folder)


# --- without a server -------------------------------------------------------------------------------------------------


def test_after_a_kill_the_data_directory_still_tells_everything(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder) as (server, url):
        ended(url, start(url, "editor", {"title": "News"}, "done"))
        until(url, start(url, "editor", {"title": "Rumours", "ask": True}, "asks"), "run.waiting")
        server.kill()
        server.wait(10)
    found = data("runs", "list", "--data", "data", folder=folder)
    story = data("runs", "show", "asks", "--data", "data", folder=folder)

    assert {run["run_id"]: run["status"] for run in found if run["agent"] == "editor"} == {"asks": "waiting", "done": "succeeded"}
    assert story["events"][-1]["type"] == "run.waiting"
    assert story["record"]["waiting_for"]["prompt"] == "Print it?"


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["dead-letters"]])
def test_a_directory_without_a_store_is_a_sentence_and_stays_as_it_is(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "empty").mkdir()

    for name in ("empty", "nowhere"):
        assert f"The data directory {name} cannot be used" in refused("runs", *command, "--data", name, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_server_and_a_directory_at_once_are_refused(tmp_path: Path) -> None:
    assert "not both" in refused("runs", "list", "--url", "http://127.0.0.1:1", "--data", "data", folder=tmp_path)


# --- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["show"], ["follow"], ["cancel"]])
@pytest.mark.parametrize("run_id", ["nobody", "..", "", "a/b", "ü"])
def test_an_id_that_is_none_is_a_sentence(served: tuple[Path, str], command: list[str], run_id: str) -> None:
    folder, url = served
    text = refused("runs", *command, run_id, "--url", url, folder=folder)

    assert re.fullmatch(r"portico: (There is no run|Nothing is served at) .+\n", text)


def test_an_id_that_a_data_directory_does_not_have_is_a_sentence(served: tuple[Path, str]) -> None:
    assert "There is no run 'nobody'" in refused("runs", "show", "nobody", "--data", "data", folder=served[0])


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", "x"], ["follow", "x"], ["cancel", "x"], ["input", "x", "1"], ["dead-letters"], ["redrive", "--all"]],
)
def test_a_server_that_is_not_there_is_a_sentence(tmp_path: Path, command: list[str]) -> None:
    text = refused("runs", *command, "--url", "http://127.0.0.1:1", folder=tmp_path)

    assert text.startswith("portico: No gateway answers at http://127.0.0.1:1 (")
    assert text.count("\n") == 1


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", "http://127.0.0.1:many", "http://[::1"])
def test_an_address_that_is_none_is_a_sentence(tmp_path: Path, url: str) -> None:
    text = refused("runs", "list", "--url", url, folder=tmp_path)

    assert "is no address" in text
    assert text.count("\n") == 1


def test_a_key_is_sent_and_its_lack_is_told(tmp_path: Path) -> None:
    folder = furnished(tmp_path)
    with house(folder, env={"PORTICO_API_KEY": "s3cret-ü"}) as (_, url):
        without = refused("runs", "list", "--url", url, folder=folder)
        wrong = refused("runs", "follow", "x", "--url", url, folder=folder, env={"PORTICO_API_KEY": "other"})
        broken = refused("runs", "list", "--url", url, folder=folder, env={"PORTICO_API_KEY": "s3\ncret"})
        right = printed("runs", "list", "--url", url, folder=folder, env={"PORTICO_API_KEY": "s3cret-ü"})

    assert "needs an API key: set PORTICO_API_KEY" in without
    assert "does not know the API key" in wrong
    assert "cannot stand in a header" in broken
    assert "cret" not in broken
    assert right == "No runs.\n"


class Stranger(BaseHTTPRequestHandler):
    """Some other web server."""

    def do_GET(self) -> None:
        body = b'{"runs": []}' if "json" in self.path or self.path.startswith("/runs?") else b"<h1>Welcome</h1>\n\n"
        self.send_response(404 if "lost" in self.path else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class has that name
        pass


@pytest.mark.parametrize("command", [["list"], ["show", "x"], ["show", "json"], ["show", "lost"], ["follow", "x"]])
def test_a_server_that_is_no_gateway_is_a_sentence(tmp_path: Path, command: list[str]) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            text = refused("runs", *command, "--url", f"http://127.0.0.1:{server.server_port}", folder=tmp_path)
        finally:
            server.shutdown()
            thread.join(5)

    assert "not as a gateway of this version of Portico does: look at --url" in text
