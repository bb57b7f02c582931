"""The shared key: whom it lets in, and that nothing shows it."""

from __future__ import annotations

import hmac
import pickle
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from portico.auth import shared_key
from portico.auth.principal import Authenticator, credential_of
from portico.auth.shared_key import SHARED, SharedKey
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.auth.principal import Principal

KEY = "correct horse battery staple"


def who(header: bytes | None, key: str = KEY, *, api_key: bytes | None = None) -> Principal | None:
    credential = credential_of(header, api_key)
    return Authenticator([SharedKey(key)]).known(credential) if credential is not None else None


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}  "])
def test_the_right_key_is_a_principal_that_may_do_everything(header: str) -> None:
    found = who(header.encode())

    assert found == SHARED
    assert permits(SHARED.scopes, frozenset({"anything"}))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
    ],
)
def test_anything_else_is_nobody(header: str | None) -> None:
    assert who(header.encode() if header is not None else None) is None


def test_a_key_may_have_any_letters() -> None:
    assert who("Bearer clé ☃".encode(), "clé ☃") == SHARED


def test_a_key_may_come_in_a_header_of_its_own_beside_what_a_proxy_takes_for_itself() -> None:
    assert who(None, api_key=KEY.encode()) == SHARED
    assert who(b"Basic YTpi", api_key=f" {KEY}".encode()) == SHARED
    assert who(b"Bearer wrong", api_key=KEY.encode()) is None


def test_a_key_is_compared_in_constant_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(shared_key, "compare_digest", counted)
    for credential in (b"", b"x", KEY.encode(), b"x" * 10_000):
        SharedKey(KEY).principal(credential, sha256(credential).digest())

    assert lengths == [(32, 32)] * 4  # digests: also the length of the key tells nothing


def test_no_dump_of_it_shows_the_key() -> None:
    key = SharedKey(KEY)

    assert KEY not in repr(key)
    assert KEY not in str(vars(key))
    assert KEY.encode() not in pickle.dumps(key)
