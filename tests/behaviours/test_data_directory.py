"""The data directory of a server: who may use it, which one it is, and what is said where it cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from portico import AgentProcess, HTTPGateway, Runtime, Supervisor
from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.errors import ConfigurationError
from portico.stores.sqlite import SqliteStore
from tests.behaviours.lives import fill, life, mounted, prepare, remounted
from tests.cli.programs import environment, portico, refused
from tests.stores.stores import accepted, stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SERVE = ("serve", "topology.yaml", "--port", "0", "--log-level", "error", "--data", "data")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    if not mounted(place, "4m"):
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


# --- one program at a time --------------------------------------------------------------------------------------------


def test_no_other_program_uses_the_directory_of_a_server_until_that_is_killed(tmp_path: Path) -> None:
    with life(tmp_path, data=None, store="sqlite") as one:
        holder = f"{tmp_path / 'data'} cannot be used: another program uses it (process {one.process.pid})"
        texts = [
            refused("serve", "topology.yaml", "--port", "0", folder=tmp_path),
            refused("mcp", "topology.yaml", folder=tmp_path),
            refused("mcp", "topology.yaml", "--data", tmp_path / "data", folder=tmp_path),
            refused("ask", "echo", "{}", "--topology", "topology.yaml", folder=tmp_path),
        ]
        one.kill()

    assert [holder in text and len(text.splitlines()) == 1 for text in texts] == [True] * 4, texts
    asked = portico("ask", "echo", '{"a": 1}', "--topology", "topology.yaml", folder=tmp_path)
    assert (asked.returncode, json.loads(asked.stdout)) == (0, {"a": 1})


# --- which one it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "arguments", "env", "expected"),
    [
        ("memory", [], {}, None),
        ("sqlite", [], {}, "data"),
        ("memory", ["--data", "given"], {}, "given"),
        ("sqlite", ["--data", "given"], {}, "given"),
        ("sqlite", [], {"PORTICO_DATA": "told"}, "told"),
        ("sqlite", ["--data", "given"], {"PORTICO_DATA": "told"}, "given"),
    ],
)
def test_a_server_stores_where_the_option_the_environment_or_the_topology_says_and_tells_where(
    tmp_path: Path, store: str, arguments: list[str], env: dict[str, str], expected: str | None
) -> None:
    with life(tmp_path, *arguments, data=None, env=env, store=store) as one:
        kept = one.ready().json()["store"]
        one.ask("desk/take", key="a-key")

    assert kept["durable"] is (expected is not None)
    assert (kept["ready"], kept["failure"]) == (True, None)
    assert [name for name in ("data", "given", "told") if (tmp_path / name).exists()] == ([expected] if expected else [])
    if expected is not None:
        assert (tmp_path / kept["where"]).resolve() == tmp_path / expected


@pytest.mark.parametrize(
    ("store", "env", "expected"),
    [("memory", {}, "kept in memory"), ("sqlite", {}, "/data."), ("memory", {"PORTICO_DATA": "told"}, "told.")],
)
def test_a_check_says_where_runs_and_states_are_kept_and_makes_nothing(
    tmp_path: Path, store: str, env: dict[str, str], expected: str
) -> None:
    prepare(tmp_path, store=store)
    before = sorted(one.name for one in tmp_path.iterdir())

    result = portico("check", "topology.yaml", folder=tmp_path, env=env)

    assert result.returncode == 0
    assert expected in result.stdout
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "__pycache__") == before


def test_a_runtime_that_stores_nothing_is_not_served_with_a_data_directory(tmp_path: Path) -> None:
    runtime = Runtime(Supervisor("root", children=[Echo("echo")]))

    with pytest.raises(ConfigurationError, match=r"The runtime stores nothing, so it cannot store in .*: Runtime\(data=…\)"):
        create_app(runtime, GatewayConfig(data=str(tmp_path)))


class Echo(AgentProcess):
    """Says what it was told."""

    async def handle(self, message: object) -> object:
        return getattr(message, "payload", None)


@pytest.mark.anyio
@pytest.mark.parametrize("order", [("echo", "api"), ("api", "echo"), ("api", "inner")])
async def test_a_gateway_in_a_tree_takes_up_what_is_stored_wherever_its_agent_stands(tmp_path: Path, order: Sequence[str]) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await stored(store, accepted("left", payload={"a": 1}, created=1_700_000_000.0))
    await store.close()
    api = HTTPGateway("api", {"port": 0})
    found = {"api": api, "echo": Echo("echo"), "inner": Supervisor("inner", children=[Echo("echo")])}

    with anyio.fail_after(20):
        async with (
            Runtime(Supervisor("root", children=[found[name] for name in order]), data=tmp_path),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as http,
        ):
            run = (await http.get("/runs/left?wait=5")).json()
            kept = (await http.get("/readyz?verbose")).json()["store"]

    assert (run["status"], run["output"]) == ("succeeded", {"a": 1}), run
    assert (kept["durable"], kept["where"]) == (True, str(tmp_path))


# --- one that cannot be used ------------------------------------------------------------------------------------------


def test_a_server_does_not_start_on_a_disk_that_cannot_be_written_and_says_so(tmp_path: Path, disk: Path) -> None:
    with life(tmp_path, data="disk/data") as one:
        one.ask("desk/take", key="a-key")
        one.kill()
    assert remounted(disk, "ro")

    text = refused(*SERVE[:-1], "disk/data", folder=tmp_path)

    assert "The data directory disk/data cannot be used" in text
    assert "read-only" in text.lower()
    assert len(text.splitlines()) == 1
    assert remounted(disk, "rw")
    with life(tmp_path, data="disk/data") as other:
        assert other.ask("desk/look").json() == ["it"]


@pytest.mark.parametrize("killed", [True, False])
def test_a_server_on_a_full_disk_starts_or_says_why_not(tmp_path: Path, disk: Path, *, killed: bool) -> None:
    with life(tmp_path, data="disk/data") as one:
        one.ask("desk/take", key="a-key")
        if not killed:
            one.process.send_signal(signal.SIGTERM)
            one.process.communicate(timeout=20)
    fill(disk / "filler")

    done = subprocess_of(*SERVE[:-1], "disk/data", folder=tmp_path)

    assert done is None or (done[0] == 1 and "The data directory disk/data cannot be used: " in done[1]), done
    (disk / "filler").unlink()
    with life(tmp_path, data="disk/data") as other:
        assert other.ask("desk/look").json() == ["it"]


def subprocess_of(*arguments: str, folder: Path) -> tuple[int, str] | None:
    """The code and the words of a server that does not start; None for one that does."""
    command = [sys.executable, "-m", "portico", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, timeout=12, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("part", ["beginning", "middle", "all", "cut"])
def test_a_damaged_file_is_a_sentence_or_a_server_that_says_what_it_cannot_read(tmp_path: Path, part: str) -> None:
    with life(tmp_path) as one:
        for number in range(40):
            one.ask("desk/take", f"number-{number}-{'x' * 2000}", key=f"key-{number}")
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=20)
    file = tmp_path / "data" / "portico.db"
    data = bytearray(file.read_bytes())
    rubbish = os.urandom(len(data))
    if part == "beginning":
        data[:200] = rubbish[:200]
    elif part == "middle":
        data[4096:] = rubbish[4096:]
    elif part == "all":
        data[:] = rubbish
    else:
        del data[len(data) // 2 :]
    file.write_bytes(data)

    text = refused(*SERVE, folder=tmp_path)

    assert "The data directory data cannot be used: " in text
    assert "damaged" in text
    assert len(text.splitlines()) == 1


def test_a_log_that_was_cut_short_after_a_kill_leaves_what_was_acknowledged_first(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        for number in range(30):
            assert one.ask("desk/take", f"number-{number}", key=f"key-{number}").json() == number + 1
        one.kill()
    size = (tmp_path / "data" / "portico.db-wal").stat().st_size
    whole = [f"number-{number}" for number in range(30)]
    for share in (0.98, 0.5):
        shutil.copytree(tmp_path / "data", tmp_path / "copy")
        os.truncate(tmp_path / "copy" / "portico.db-wal", int(size * share))
        with life(tmp_path, data="copy") as other:
            seen = other.ask("desk/look").json()
            again = other.ask("desk/take", "number-0", key="key-0")

            assert seen == whole[: len(seen)]
            assert 0 < len(seen) < 30
            assert (again.json(), again.headers["idempotency-replayed"]) == (1, "true")
        shutil.rmtree(tmp_path / "copy")
