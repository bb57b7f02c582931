"""The contract of the port `Codec`: JSON-able data and bytes come back as they were, and nothing else is taken."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.kernel.codec import JsonCodec
from tests.contracts.json_values import FALSY, JSON, exact

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.kernel.protocols import Codec

CODECS: list[Codec] = [JsonCodec()]

over_every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


def cyclic() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def bottomless() -> Any:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@over_every_codec
@given(value=JSON)
def test_a_json_value_comes_back_as_it_was(codec: Codec, value: Any) -> None:
    assert exact(codec.decode(codec.encode(value))) == exact(value)


@over_every_codec
@pytest.mark.parametrize("value", FALSY, ids=repr)
def test_a_value_that_is_false_comes_back_as_it_was(codec: Codec, value: Any) -> None:
    assert exact(codec.decode(codec.encode(value))) == exact(value)


@over_every_codec
@given(value=st.binary())
def test_bytes_come_back_as_bytes(codec: Codec, value: bytes) -> None:
    back = codec.decode(codec.encode(value))
    assert isinstance(back, bytes)
    assert back == value


@over_every_codec
@given(value=JSON | st.binary())
def test_bytes_that_look_like_an_encoded_value_stay_bytes(codec: Codec, value: Any) -> None:
    encoded = codec.encode(value)
    assert codec.decode(codec.encode(encoded)) == encoded


@over_every_codec
@given(value=JSON)
def test_what_is_encoded_is_not_changed_by_it(codec: Codec, value: Any) -> None:
    before = exact(value)
    codec.encode(value)
    assert exact(value) == before


@over_every_codec
def test_what_is_decoded_is_fresh_every_time(codec: Codec) -> None:
    data = codec.encode({"list": []})
    codec.decode(data)["list"].append(1)
    assert codec.decode(data) == {"list": []}


@over_every_codec
@pytest.mark.parametrize(
    "value",
    [object(), datetime.now(UTC), {1, 2}, 1j, float("nan"), float("inf"), float("-inf"), "\ud800", {(1, 2): "a"}, {b"a": 1}],
    ids=["object", "date", "set", "complex", "nan", "inf", "-inf", "surrogate", "tuple-as-key", "bytes-as-key"],
)
def test_what_is_no_json_is_refused_wherever_it_stands(codec: Codec, value: Any) -> None:
    for payload in (value, [value], {"a": {"b": value}}):
        with pytest.raises(ValueError):
            codec.encode(payload)


@over_every_codec
@pytest.mark.parametrize(
    "made",
    [lambda: [b"a"], lambda: {"a": b"a"}, cyclic, bottomless],
    ids=["bytes-in-list", "bytes-in-object", "cyclic", "bottomless"],
)
def test_a_structure_that_json_cannot_write_is_refused(codec: Codec, made: Callable[[], Any]) -> None:
    value = made()
    with pytest.raises(ValueError):
        codec.encode(value)
