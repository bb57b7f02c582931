"""The key itself: whom it lets in, and that nothing shows it."""

from __future__ import annotations

import hmac
import pickle
from typing import TYPE_CHECKING

import pytest

from portico.auth import api_key
from portico.auth.api_key import PRINCIPAL, ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "correct horse battery staple"


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}  "])
def test_the_right_key_is_a_principal(header: str) -> None:
    assert ApiKey(KEY).principal(header) == PRINCIPAL


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
    assert ApiKey(KEY).principal(header) is None


def test_a_key_may_have_any_letters() -> None:
    as_received = "Bearer clé ☃".encode().decode("latin-1")

    assert ApiKey("clé ☃").principal(as_received) == PRINCIPAL


def test_a_key_is_compared_in_constant_time_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []
    compare: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def counted(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(api_key, "compare_digest", counted)
    for header in (None, "", "Basic x", "Bearer x", f"Bearer {KEY}", "Bearer " + "x" * 10_000):
        ApiKey(KEY).principal(header)

    assert lengths == [(32, 32)] * 6  # digests: also the length of the key tells nothing


def test_no_dump_of_it_shows_the_key() -> None:
    key = ApiKey(KEY)

    assert KEY not in repr(key)
    assert KEY not in str(vars(key))
    assert KEY.encode() not in pickle.dumps(key)
