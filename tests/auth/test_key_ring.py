"""API keys: their form, their file, and what a ring of them lets in."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from portico.auth import key_ring
from portico.auth.api_key import ApiKey, id_of, is_whole, new_key
from portico.auth.key_file import KeyFile, checked_principal
from portico.auth.key_ring import LOOK_EVERY, KeyRing
from portico.auth.principal import Authenticator, Principal
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

ALICE = Principal("alice", frozenset({"read"}))


class Time:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "data" / "keys.json")


def added(file: KeyFile, principal: Principal = ALICE, lifetime: float | None = None) -> str:
    key, record = new_key(principal, lifetime)
    with file.editing() as keys:
        keys.append(record)
    return key


def who(ring: KeyRing, key: str) -> Principal | None:
    return ring.principal(key.encode(), sha256(key.encode()).digest())


# --- the form ---------------------------------------------------------------------------------------------------------


def test_a_key_reads_prefix_id_secret_and_checksum() -> None:
    key, record = new_key(ALICE)

    assert re.fullmatch(r"portico_[0-9a-f]{12}_[0-9A-Za-z]{49}", key)
    assert id_of(key.encode()) == record.id
    assert record.digest == sha256(key.encode()).digest()


def test_keys_differ() -> None:
    assert len({new_key(ALICE)[0] for _ in range(1000)}) == 1000


def test_the_checksum_tells_a_whole_key_from_a_damaged_one() -> None:
    key, _ = new_key(ALICE)
    damaged = [key[:-1], key[1:], key + "0", key.replace("_", "-"), key[:25] + ("a" if key[25] != "a" else "b") + key[26:], "", "é"]

    assert is_whole(key)
    assert not any(is_whole(one) for one in damaged)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(file: KeyFile) -> None:
    added(file, ALICE, 90.0)
    added(file, Principal("bob", frozenset()))
    first, second = file.read()

    assert (first.principal, second.principal) == (ALICE, Principal("bob", frozenset()))
    assert first.expires == pytest.approx(first.created + 90, abs=1)
    assert second.expires is None


def test_neither_the_file_nor_the_ring_holds_a_key(file: KeyFile) -> None:
    key = added(file)
    ring = KeyRing(file)
    secret = key.rpartition("_")[2]

    assert secret not in file.path.read_text()
    assert secret not in repr(vars(ring))
    assert secret not in repr(file.read())


def test_only_its_owner_reads_the_file_and_nothing_else_is_left(file: KeyFile) -> None:
    added(file)
    added(file)

    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_an_edit_that_fails_changes_nothing(file: KeyFile) -> None:
    added(file)
    before = file.path.read_bytes()
    with pytest.raises(RuntimeError), file.editing() as keys:  # noqa: PT012  # it is the edit that fails
        keys.clear()
        raise RuntimeError

    assert file.path.read_bytes() == before


def test_a_write_that_fails_changes_nothing(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    added(file)
    before = file.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match="cannot be written: No space left"):
        added(file)
    assert file.path.read_bytes() == before
    assert sorted(one.name for one in file.path.parent.iterdir()) == ["keys.json", "keys.json.lock"]


def test_writers_of_several_threads_and_programs_lose_nothing(file: KeyFile) -> None:
    code = "import sys\nfrom tests.auth.test_key_ring import added, KeyFile\nfor _ in range(10): added(KeyFile(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(file.path)]
    root = Path(__file__).parents[2]
    programs = [subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [added(file) for _ in range(10)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [program.wait(50) for program in programs] == [0, 0]
    assert len(file.read()) == 40


GOOD: dict[str, Any] = {"id": "abcd", "name": "alice", "scopes": [], "sha256": "0" * 64, "created_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is broken: Invalid JSON"),
        ("{", "is broken: Invalid JSON"),
        ("[]", "is broken"),
        ("{}", "version: Field required"),
        ('{"version": 2}', "version: Input should be 1"),
        (json.dumps({"version": 1, "keys": [{**GOOD, "sha256": "secret"}]}), r"keys\[0\].sha256: String should match"),
        (json.dumps({"version": 1, "keys": [{**GOOD, "scopes": "all"}]}), r"keys\[0\].scopes"),
        (json.dumps({"version": 1, "keys": [{**GOOD, "scopes": ["a b"]}]}), r"keys\[0\].scopes\[0\]"),
        (json.dumps({"version": 1, "keys": [{**GOOD, "created_at": "2026-01-01"}]}), r"keys\[0\].created_at"),
        (json.dumps({"version": 1, "keys": [{**GOOD, "expires": None}]}), r"keys\[0\].expires: Extra inputs"),
        (json.dumps({"version": 1, "keys": [GOOD, GOOD]}), "an id is there twice"),
    ],
)
def test_a_broken_file_is_refused_with_the_place_and_without_what_stands_there(file: KeyFile, text: str, reason: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(text)

    with pytest.raises(ConfigurationError, match=reason) as raised:
        KeyRing(file)
    assert "'secret'" not in raised.value.detail
    with pytest.raises(ConfigurationError, match=reason):
        added(file)
    assert file.path.read_text() == text


def test_a_file_that_is_not_there_says_how_to_make_it(file: KeyFile) -> None:
    with pytest.raises(ConfigurationError, match="portico keys create NAME --file"):
        KeyRing(file)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "x" * 201, "api-key"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        checked_principal(name, [])


@pytest.mark.parametrize("scope", ["", "a b", 'a"', "é", "a\\"])
def test_a_scope_that_cannot_be_is_refused(scope: str) -> None:
    with pytest.raises(ConfigurationError, match="is no scope"):
        checked_principal("alice", ["fine", scope])


# --- the ring ---------------------------------------------------------------------------------------------------------


def test_a_key_is_its_principal_and_nothing_else_is(file: KeyFile) -> None:
    key, other = added(file), added(file, Principal("bob", frozenset()))
    ring = KeyRing(file)

    assert who(ring, key) == ALICE
    assert who(ring, other) == Principal("bob", frozenset())
    mixed = key.rpartition("_")[0] + "_" + other.rpartition("_")[2]
    for wrong in (mixed, key[:-1], key + "0", key.upper(), key[8:], "portico_", "", id_of(key.encode()), "portico__x", "ÿ_ÿ_ÿ"):
        assert who(ring, wrong) is None


def test_an_expired_key_opens_nothing(file: KeyFile) -> None:
    key = added(file, lifetime=60.0)
    clock = Time()
    ring = KeyRing(file, now=clock)
    expires = file.read()[0].expires
    assert expires is not None

    clock.now = expires - 1
    assert who(ring, key) == ALICE
    clock.now = expires
    assert who(ring, key) is None


def test_a_ring_follows_its_file_and_looks_at_most_once_a_second(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    key = added(file)
    clock = Time()
    ring = KeyRing(file, monotonic=clock)
    looks: list[int] = []
    stamp = file.stamp
    monkeypatch.setattr(file, "stamp", lambda: (looks.append(1), stamp())[1])
    other = added(file)
    for _ in range(100):
        assert who(ring, other) is None
    assert looks == []

    clock.now += LOOK_EVERY
    assert [who(ring, key), who(ring, other)] == [ALICE, ALICE]
    with file.editing() as keys:
        del keys[0]
    clock.now += LOOK_EVERY
    assert [who(ring, key), who(ring, other)] == [None, ALICE]
    assert len(looks) == 2


def _break(path: Path) -> None:
    path.write_text("{")


@pytest.mark.parametrize("damage", [_break, Path.unlink])
def test_a_file_that_breaks_later_changes_nothing_until_it_is_repaired(
    file: KeyFile, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    key = added(file)
    clock = Time()
    ring = KeyRing(file, monotonic=clock)
    good = file.path.read_text()
    damage(file.path)
    for _ in range(3):
        clock.now += LOOK_EVERY
        assert who(ring, key) == ALICE
    assert caplog.text.count("the keys of before stay valid") == 1

    file.path.write_text(good.replace("alice", "carol"))
    clock.now += LOOK_EVERY
    assert who(ring, key) == Principal("carol", frozenset({"read"}))


def test_refusing_takes_the_same_steps_whichever_keys_there_are(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """By structure, not by the clock: each refusal hashes once, compares two digests once and looks at the expiry once."""
    key, expired, revoked = added(file), added(file, lifetime=1e-3), added(file)
    with file.editing() as keys:
        keys[:] = [one for one in keys if one.id != id_of(revoked.encode())]
    steps: list[str] = []
    compare, look = key_ring.compare_digest, ApiKey.expired

    def compared(one: bytes, other: bytes) -> bool:
        steps.append(f"compare {len(one)} {len(other)}")
        return compare(one, other)

    def looked(self: ApiKey, now: float) -> bool:
        steps.append("expiry")
        return look(self, now)

    clock = Time()
    clock.now = 4_000_000_000.0
    monkeypatch.setattr(key_ring, "compare_digest", compared)
    monkeypatch.setattr(ApiKey, "expired", looked)
    authenticator = Authenticator([KeyRing(file, now=clock)])
    seen: set[tuple[str, ...]] = set()
    for credential in (key[:-1] + "!", expired, revoked, new_key(ALICE)[0], "nonsense", ""):
        steps.clear()
        assert authenticator.known(credential.encode()) is None
        seen.add(tuple(steps))

    assert seen == {("compare 32 32", "expiry")}
