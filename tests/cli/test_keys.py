"""`portico keys`, as its users run it: beside a running server, from files and directories, with every mistake."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from tests.cli.programs import portico, refused, serving, topology

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = r"portico_[0-9a-f]{12}_[0-9A-Za-z]{49}"


def made(*arguments: str | Path, folder: Path) -> str:
    """The key that `portico keys create` prints."""
    done = portico("keys", "create", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    assert re.fullmatch(KEY, key)
    assert key.rpartition("_")[2] not in done.stderr
    return key


def status(url: str, key: str) -> int:
    return httpx.post(f"{url}/agents/echo", json={}, headers={"authorization": f"Bearer {key}"}, trust_env=False).status_code


def becomes(state: Callable[[], int], wanted: int) -> bool:
    """Whether it comes to that within a time that is generous for a look once a second."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if state() == wanted:
            return True
    return False


def test_a_running_server_notices_new_and_revoked_keys(tmp_path: Path) -> None:
    first = made("first", "--file", "k.json", folder=tmp_path)
    with serving(topology(tmp_path, "Echo"), folder=tmp_path, env={"PORTICO_KEYS_FILE": "k.json"}) as (_, url):
        assert status(url, first) == 200
        assert httpx.get(f"{url}/agents", trust_env=False).status_code == 401

        second = made("second", "--file", "k.json", folder=tmp_path)
        assert becomes(lambda: status(url, second), 200)

        revoked = portico("keys", "revoke", "second", "--file", "k.json", folder=tmp_path)
        assert revoked.stdout == f"revoked {second.split('_')[1]} of second\n"
        assert becomes(lambda: status(url, second), 401)
        assert status(url, first) == 200


def test_the_keys_of_a_data_directory_need_no_setting(tmp_path: Path) -> None:
    key = made("ci", "--data", "data", folder=tmp_path)
    path = topology(tmp_path, "Echo", more="store: {type: sqlite, path: data}\n")
    with serving(path, "--host", "0.0.0.0", folder=tmp_path) as (_, url):  # which needs keys
        assert status(url.replace("0.0.0.0", "127.0.0.1"), key) == 200
        assert status(url.replace("0.0.0.0", "127.0.0.1"), "wrong") == 401


def test_a_topology_can_name_the_key_file(tmp_path: Path) -> None:
    key = made("ci", "--file", "k.json", folder=tmp_path)
    with serving(topology(tmp_path, "Echo", more="server: {keys_file: k.json}\n"), folder=tmp_path) as (_, url):
        assert [status(url, key), status(url, "wrong")] == [200, 401]


def test_a_list_shows_everything_but_the_secret(tmp_path: Path) -> None:
    keys = [
        made("ci", "--scope", "write", "--scope", "read", "--expires", "90d", "--file", "k.json", folder=tmp_path),
        made("ops", "--scope", "*", "--file", "k.json", folder=tmp_path),
    ]
    listed = portico("keys", "list", folder=tmp_path, env={"PORTICO_KEYS_FILE": "k.json"}).stdout
    data = json.loads(portico("keys", "list", "--json", "--file", "k.json", folder=tmp_path).stdout)

    assert [line.split()[1:3] for line in listed.splitlines()] == [["NAME", "SCOPES"], ["ci", "read"], ["ops", "*"]]
    assert listed.splitlines()[2].endswith("never")
    assert [(one["name"], one["scopes"], one["expires_at"] is None) for one in data] == [
        ("ci", ["read", "write"], False),
        ("ops", ["*"], True),
    ]
    for key in keys:
        assert key.split("_")[1] in listed
        assert key.rpartition("_")[2] not in listed + str(data) + (tmp_path / "k.json").read_text()


def test_keys_are_revoked_by_id_by_name_and_by_themselves(tmp_path: Path) -> None:
    keys = [made(name, "--file", "k.json", folder=tmp_path) for name in ("a", "b", "b", "c")]
    ids = [key.split("_")[1] for key in keys]
    for meant, gone in ((ids[0], ids[:1]), ("b", ids[1:3]), (keys[3], ids[3:])):
        said = portico("keys", "revoke", meant, "--file", "k.json", folder=tmp_path).stdout
        assert [line.split()[1] for line in said.splitlines()] == gone

    assert portico("keys", "list", "--file", "k.json", folder=tmp_path).stdout == "There are no keys.\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "ci"], "Say where the keys are"),
        (["create", "ci", "--file", "k.json", "--data", "d"], "not both"),
        (["create", "a b", "--file", "k.json"], "is no name for a key"),
        (["create", "api-key", "--file", "k.json"], "Choose another name"),
        (["create", "ci", "--scope", "a b", "--file", "k.json"], "is no scope"),
        (["create", "ci", "--expires", "soon", "--file", "k.json"], "90d"),
        (["create", "ci", "--expires", "forever", "--file", "k.json"], "never expires"),
        (["create", "ci", "--file", "broken.json"], "is broken"),
        (["list", "--file", "none.json"], "portico keys create NAME"),
        (["list", "--file", "broken.json"], "is broken"),
        (["revoke", "ci", "--file", "none.json"], "portico keys create NAME"),
        (["revoke", "alcie", "--file", "good.json"], "Did you mean 'alice'"),
    ],
)
def test_a_mistake_is_a_sentence_and_makes_nothing(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    with KeyFile(tmp_path / "good.json").editing() as keys:
        keys.append(new_key(Principal("alice", frozenset()))[1])
    before = sorted(one.name for one in tmp_path.iterdir() if not one.name.endswith(".lock"))

    assert sentence in " ".join(re.sub(r"[│╭╮╰╯─]", " ", refused("keys", *arguments, folder=tmp_path)).split())
    assert sorted(one.name for one in tmp_path.iterdir() if not one.name.endswith(".lock")) == before


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(("file", "sentence"), [("none.json", "cannot be read"), ("broken.json", "is broken")])
def test_a_server_does_not_start_with_a_key_file_that_is_no_use(tmp_path: Path, command: str, file: str, sentence: str) -> None:
    (tmp_path / "broken.json").write_text('{"version": 1, "keys": 5}')

    assert sentence in refused(command, topology(tmp_path, "Echo"), folder=tmp_path, env={"PORTICO_KEYS_FILE": file})
