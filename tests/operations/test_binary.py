"""Bytes in contracts: base64 in JSON, as they are in Python, and what keeps a way of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, SecretBytes

from portico.errors import ContractViolation, InvalidReply
from portico.operations.contract import ANYTHING, Contract
from portico.operations.members import Members
from portico.operations.upload import Upload

BYTES = b"\x00\xff\xfe"


class Inner(BaseModel):
    data: bytes


class Outer(BaseModel):
    data: bytes
    inner: Inner | None = None
    many: list[bytes] = []
    below: Outer | None = None
    file: Upload | None = None


class Text(BaseModel):
    """Says itself how its bytes are written."""

    model_config = ConfigDict(val_json_bytes="utf8")

    data: bytes


class Guarded(BaseModel):
    data: bytes
    secret: SecretBytes


@dataclass
class Plain:
    data: bytes


@pytest.mark.parametrize("text", ["AP/+", "AP_-"])
def test_bytes_anywhere_in_a_request_are_base64_of_either_alphabet(text: str) -> None:
    payload: Any = {"data": text, "inner": {"data": text}, "many": [text], "below": {"data": text}, "file": {"content": text}}
    request = Contract("take", Outer, ANYTHING).accept(payload)

    assert request == Outer(data=BYTES, inner=Inner(data=BYTES), many=[BYTES], below=Outer(data=BYTES), file=Upload(content=BYTES))
    assert Contract("take", Plain, ANYTHING).accept({"data": text}) == Plain(BYTES)


def test_what_a_reply_has_is_what_a_request_takes() -> None:
    outer = Outer(data=BYTES, inner=Inner(data=BYTES))
    contract = Contract("both", Outer, Outer)

    assert contract.accept(contract.reply("agent", outer)) == outer
    assert outer.model_dump()["data"] == BYTES  # the model itself is as it was


def test_bytes_as_a_whole_come_and_go_as_they_are() -> None:
    contract = Contract("whole", bytes, bytes)

    assert contract.accept(BYTES) == contract.accept("AP/+") == contract.reply("agent", BYTES) == BYTES
    with pytest.raises(InvalidReply):
        contract.reply("agent", 7)
    with pytest.raises(ContractViolation):
        Contract("inner", Inner, ANYTHING).accept(BYTES)


def test_a_model_that_says_how_its_bytes_are_written_keeps_its_way() -> None:
    contract = Contract("own", Text, ANYTHING)

    assert contract.accept({"data": "hé"}).data == "hé".encode()
    assert "contentEncoding" not in contract.request_schema()["properties"]["data"]


def test_secret_bytes_stay_text_beside_others() -> None:
    contract = Contract("guarded", Guarded, ANYTHING)
    request = contract.accept({"data": "AP/+", "secret": "hunter2"})

    assert (request.data, request.secret.get_secret_value()) == (BYTES, b"hunter2")
    assert "contentEncoding" not in contract.request_schema()["properties"]["secret"]
    assert contract.without_secrets({"data": "AP/+", "secret": "hunter2"}) == ({"data": "AP/+", "secret": "**********"}, True)


def test_the_schema_says_how_bytes_are_written() -> None:
    contract = Contract("both", Inner, Inner)

    assert contract.request_schema()["properties"]["data"]["contentEncoding"] == "base64"
    assert contract.reply_schema()["properties"]["data"]["contentEncoding"] == "base64url"


@pytest.mark.parametrize(
    ("request_type", "binary", "direct", "media_types"),
    [
        (Inner, {"data"}, "data", ["application/json", "multipart/form-data", "application/octet-stream"]),
        (Plain, {"data"}, "data", ["application/json", "multipart/form-data", "application/octet-stream"]),
        (Outer, {"data", "many", "file"}, None, ["application/json", "multipart/form-data"]),
        (bytes, set[str](), None, ["application/json", "application/octet-stream"]),
        (bytes | None, set[str](), None, ["application/json", "application/octet-stream"]),
        (Text, set[str](), None, ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]),
        (dict[str, str], set[str](), None, ["application/json"]),
        (list[int], set[str](), None, ["application/json"]),
    ],
)
def test_in_which_forms_a_request_can_be_written_shows_in_its_schema(
    request_type: Any, binary: set[str], direct: str | None, media_types: list[str]
) -> None:
    members = Members(Contract("any", request_type, ANYTHING).request_schema())

    assert (members.binary, members.direct, members.media_types) == (binary, direct, media_types)
