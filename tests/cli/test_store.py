"""`portico store`: on a data directory that a server has left, and beside one that is at work."""

from __future__ import annotations

import json
import shutil
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.cli.desk import data, ended, furnished, house, printed, start, until
from tests.cli.programs import portico, refused

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

COMMANDS = [["list"], ["show", "editor"], ["prune", "--runs", "1d"], ["verify"], ["export", "x.jsonl"]]


def work(url: str) -> None:
    """Two runs that succeed, one that is given up, one that waits."""
    ended(url, start(url, "editor", {"title": "News"}, "done"))
    ended(url, httpx.get(f"{url}/runs?parent=done", trust_env=False).json()["runs"][0]["run_id"])
    ended(url, start(url, "press", {"sheets": "x" * 5000}, "lost"))
    until(url, start(url, "editor", {"title": "Rumours", "ask": True}, "asks"), "run.waiting")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose server has ended."""
    folder = furnished(tmp_path_factory.mktemp("house"))
    with house(folder) as (server, url):
        work(url)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    return folder


@pytest.fixture
def left(template: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(template, tmp_path / "left")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A folder whose server is at work."""
    folder = furnished(tmp_path_factory.mktemp("house"))
    with house(folder) as (_, url):
        work(url)
        yield folder


def runs(folder: Path) -> set[str]:
    return {run["run_id"] for run in data("runs", "list", "--data", "data", folder=folder)}


def damage(folder: Path, begin: int, end: int | None = None) -> None:
    """Overwrite a part of the file."""
    file = folder / "data" / "portico.db"
    content = bytearray(file.read_bytes())
    content[begin:end] = b"\xa5" * len(content[begin:end])
    file.write_bytes(content)


# --- to look ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [["--data", "data"], ["--topology", "topology.yaml"]])
def test_list_counts_what_is_there_beside_a_server(served: Path, where: list[str]) -> None:
    head, *lines = printed("store", "list", *where, folder=served).splitlines()
    counts = {line.rpartition(" ")[0].strip(): int(line.rpartition(" ")[2]) for line in lines}

    assert head.endswith("iB")
    assert head.partition(" (sqlite), ")[0].endswith("data")
    assert counts["runs"] == 4
    assert (counts["succeeded"], counts["failed"], counts["waiting"], counts["dead letters"], counts["states"]) == (2, 1, 1, 1, 2)
    assert len({len(line) for line in lines}) == 1


def test_list_counts_for_a_program(left: Path) -> None:
    counts = data("store", "list", "--data", "data", folder=left)

    assert counts["runs"] == {"succeeded": 2, "failed": 1, "waiting": 1}
    assert (counts["kind"], counts["dead_letters"], counts["states"]) == ("sqlite", 1, 2)
    assert counts["size"] > 4096


def test_show_prints_the_state_of_a_process_beside_a_server(served: Path) -> None:
    assert printed("store", "show", "editor", "--data", "data", folder=served) == 'last "News"\n'
    assert data("store", "show", "printer", "-t", "topology.yaml", folder=served) == {"pages": 1}


def test_show_of_a_process_without_a_state_offers_the_nearest(left: Path) -> None:
    text = refused("store", "show", "editr", "--data", "data", folder=left)

    assert text == "portico: data has no state of 'editr'. Did you mean 'editor'?\n"


# --- verify -----------------------------------------------------------------------------------------------------------


def test_verify_says_that_a_store_is_sound_beside_a_server_and_without(served: Path, left: Path) -> None:
    assert printed("store", "verify", "--data", "data", folder=served) == "sound\n"
    assert printed("store", "verify", "--data", "data", folder=left) == "sound\n"


def test_verify_tells_damage_line_by_line(left: Path) -> None:
    damage(left, 3 * 4096)
    result = portico("store", "verify", "--data", "data", folder=left)

    assert result.returncode == 1
    assert "sound" not in result.stdout
    assert "damaged" in result.stdout + result.stderr


def test_a_file_whose_beginning_is_damaged_is_a_sentence(left: Path) -> None:
    damage(left, 0, 4096)

    for command in COMMANDS[:4]:
        text = refused("store", *command, "--data", "data", folder=left)
        assert "damaged" in text
        assert text.count("\n") == 1


def test_a_damaged_store_is_read_with_a_sentence_about_the_directory(left: Path) -> None:
    damage(left, 3 * 4096)

    assert "The data directory data cannot be used" in refused("runs", "list", "--data", "data", folder=left)


# --- prune ------------------------------------------------------------------------------------------------------------


def test_prune_removes_runs_that_are_old_enough_and_none_that_has_not_ended(left: Path) -> None:
    planned = printed("store", "prune", "--runs", "0.001s", "--dry-run", "--data", "data", folder=left)
    before = runs(left)
    text = printed("store", "prune", "--runs", "0.001", "--data", "data", folder=left)

    assert planned == "To be removed: runs 3, payloads of others 0.\n"
    assert len(before) == 4
    assert text.startswith("Removed: runs 3, payloads of others 0, ")
    assert runs(left) == {"asks"}


def test_prune_removes_payloads_and_keeps_the_runs(left: Path) -> None:
    planned = printed("store", "prune", "--payloads", "0.001s", "--dry-run", "--data", "data", folder=left)
    text = printed("store", "prune", "--payloads", "0.001s", "--data", "data", folder=left)
    story = data("runs", "show", "done", "--data", "data", folder=left)

    assert planned == "To be removed: runs 0, payloads of others 3.\n"
    assert text.startswith("Removed: runs 0, payloads of others 3, ")
    assert (story["record"]["input"], story["record"]["output"]) == (None, None)
    assert "  events 2 to 6 are kept no more\n" in printed("runs", "show", "done", "--data", "data", folder=left)


def test_prune_removes_the_oldest_beyond_a_size(left: Path) -> None:
    printed("store", "prune", "--size", "1KiB", "--data", "data", folder=left)

    assert runs(left) == {"asks", "lost"}  # a dead letter stays, where no age is given


def test_prune_takes_what_a_topology_says_unless_an_option_does(left: Path) -> None:
    topology = left / "topology.yaml"
    said = topology.read_text().replace("path: data}", "path: data, retention: {runs: 1w, payloads: 0.001s}}")
    topology.write_text(said)
    text = printed("store", "prune", "--topology", "topology.yaml", folder=left)
    rest = printed("store", "prune", "--topology", "topology.yaml", "--runs", "0.001s", folder=left)

    assert text.startswith("Removed: runs 0, payloads of others 3, ")
    assert rest.startswith("Removed: runs 3, payloads of others 0, ")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Say what to remove"),
        (["--runs", "1 year"], "'1 year' is not a number of seconds"),
        (["--payloads", "-1"], "'-1' is not a number of seconds"),
        (["--size", "much"], "'much' is not a number of bytes"),
        (["--size", "1MB", "--dry-run"], "known only once"),
    ],
)
def test_what_cannot_be_pruned_is_refused(left: Path, options: list[str], text: str) -> None:
    said = refused("store", "prune", *options, "--data", "data", folder=left)

    assert text in " ".join(said.replace("│", " ").split())
    assert len(runs(left)) == 4


@pytest.mark.parametrize("command", [["prune", "--runs", "1s"], ["import", "lines"]])
def test_what_writes_is_refused_while_a_server_runs(served: Path, command: list[str]) -> None:
    (served / "lines").touch()
    text = refused("store", *command, "--data", "data", folder=served)

    assert "another program uses it (process " in text
    assert text.count("\n") == 1


# --- export and import ------------------------------------------------------------------------------------------------


def test_what_is_exported_and_imported_is_the_same(left: Path) -> None:
    out = printed("store", "export", "first.jsonl", "--data", "data", folder=left)
    printed("store", "import", "first.jsonl", "--data", "other", folder=left)
    second = printed("store", "export", "-", "--data", "other", folder=left)
    lines = (left / "first.jsonl").read_text()

    assert out == ""
    assert second == lines
    assert {json.loads(line)["kind"] for line in lines.splitlines()} >= {"run", "event", "step", "state"}
    assert (left / "first.jsonl").stat().st_mode & 0o077 == 0
    assert data("runs", "show", "done", "--data", "other", folder=left) == data(
        "runs", "show", "done", "--data", "data", folder=left
    )


def test_an_export_beside_a_server_is_imported_from_standard_input_and_goes_on(served: Path, tmp_path: Path) -> None:
    lines = printed("store", "export", "-", "--data", "data", folder=served)
    furnished(tmp_path)
    result = portico("store", "import", "-", "--topology", "topology.yaml", folder=tmp_path, stdin=lines.encode())
    with house(tmp_path) as (_, url):
        printed("runs", "input", "asks", '{"yes": "yes"}', "--url", url, folder=tmp_path)
        output: Any = ended(url, "asks")["output"]

    assert result.stderr == f"Lines imported: {len(lines.splitlines())}.\n"
    assert output == "RUMOURS, yes"


def test_an_import_leaves_out_the_runs_that_are_there(left: Path) -> None:
    printed("store", "export", "x.jsonl", "--data", "data", folder=left)
    printed("store", "import", "x.jsonl", "--data", "data", folder=left)

    assert data("store", "list", "--data", "data", folder=left)["runs"] == {"succeeded": 2, "failed": 1, "waiting": 1}


def test_lines_that_were_not_exported_are_told_with_their_number(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"kind": "state", "name": "a", "state": {}}\n{"kind": "rum"}\n')
    text = refused("store", "import", "x.jsonl", "--data", "data", folder=tmp_path)

    assert text.startswith("portico: x.jsonl was not imported to its end. Line 2 is not what `export` writes")


def test_files_that_cannot_be_used_are_a_sentence(left: Path) -> None:
    assert "none.jsonl cannot be read" in refused("store", "import", "none.jsonl", "--data", "other", folder=left)
    assert "cannot be written" in refused("store", "export", "none/x.jsonl", "--data", "data", folder=left)
    assert not (left / "other").exists()


# --- which directory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_directory_without_a_store_is_a_sentence_and_stays_as_it_is(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "empty").mkdir()

    for name in ("empty", "nowhere"):
        assert f"The data directory {name} cannot be used: there is no portico.db" in refused(
            "store", *command, "--data", name, folder=tmp_path
        )
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("where", [[], ["--data", "data", "--topology", "topology.yaml"]])
def test_one_of_directory_and_topology_must_be_given(tmp_path: Path, where: list[str]) -> None:
    assert "--data DIR or --topology FILE" in refused("store", "verify", *where, folder=tmp_path)


def test_a_topology_that_stores_nothing_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "topology.yaml").write_text("supervision: {name: root}\n")

    assert "in memory: it has no data directory" in refused("store", "list", "--topology", "topology.yaml", folder=tmp_path)
