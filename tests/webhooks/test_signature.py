"""Signatures: those of the specification's own example and its own library; what is forged, old or damaged is not believed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from portico.webhooks.signature import InvalidSignatureError, secrets_of, sign, verify
from tests.webhooks.receivers import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1614265330
BODY = b'{"test": 2432232314}'
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def test_the_example_of_the_specification_is_signed_as_it_says() -> None:
    assert sign(secrets_of(SECRET), ID, AT, BODY) == {
        "webhook-id": ID,
        "webhook-timestamp": str(AT),
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(body=st.text().map(str.encode), ago=st.integers(-299, 299), rotated=st.booleans())
def test_the_official_library_believes_what_is_signed_here(body: bytes, ago: int, *, rotated: bool) -> None:
    now = int(datetime.now(UTC).timestamp())
    headers = sign(secrets_of(f"{OTHER}, {SECRET}" if rotated else SECRET), ID, now - ago, body)
    Webhook(SECRET).verify(body, headers, json_parse=False)
    verify(SECRET, headers, body, now=now)


@given(body=st.text())
def test_what_the_official_library_signs_is_believed_here(body: str) -> None:
    signature = Webhook(SECRET).sign(ID, datetime.fromtimestamp(AT, UTC), body)
    headers = {"webhook-id": ID, "webhook-timestamp": str(AT), "webhook-signature": f"v1a,nonsense {signature} v1,"}
    verify(SECRET, headers, body.encode(), now=AT)


CHANGES: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another id": lambda headers: {**headers, "webhook-id": ID + "x"},
    "another time": lambda headers: {**headers, "webhook-timestamp": str(AT + 1)},
    "no time": lambda headers: {**headers, "webhook-timestamp": "now"},
    "a time of other digits": lambda headers: {**headers, "webhook-timestamp": "\u0661"},
    "a time without end": lambda headers: {**headers, "webhook-timestamp": "9" * 5000},
    "another signature": lambda headers: {**headers, "webhook-signature": "v1,AAAA"},
    "another scheme": lambda headers: {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
    "no signature": lambda headers: {**headers, "webhook-signature": ""},
    "other letters": lambda headers: {**headers, "webhook-signature": "v1,\u00fc\ud800"},
    "no header": lambda headers: {name: value for name, value in headers.items() if name != "webhook-id"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_on_the_way_is_not_believed(change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    headers = sign(secrets_of(SECRET), ID, AT, BODY)
    verify(SECRET, headers, BODY, now=AT)
    with pytest.raises(InvalidSignatureError):
        verify(SECRET, change(headers), BODY, now=AT)


def test_another_body_and_another_secret_are_not_believed() -> None:
    headers = sign(secrets_of(SECRET), ID, AT, BODY)
    with pytest.raises(InvalidSignatureError):
        verify(SECRET, headers, BODY + b" ", now=AT)
    with pytest.raises(InvalidSignatureError):
        verify(OTHER, headers, BODY, now=AT)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, headers)  # of 2021


@pytest.mark.parametrize(("away", "believed"), [(-300, True), (300, True), (-301, False), (301, False)])
def test_a_message_is_believed_for_five_minutes(away: int, *, believed: bool) -> None:
    headers = sign(secrets_of(SECRET), ID, AT, BODY)
    if believed:
        verify(SECRET, headers, BODY, now=AT + away)
    else:
        with pytest.raises(InvalidSignatureError, match="300 seconds"):
            verify(SECRET, headers, BODY, now=AT + away)


def test_a_receiver_changes_from_one_secret_to_the_next_when_it_likes() -> None:
    headers = sign(secrets_of(f"{OTHER},{SECRET}"), ID, AT, BODY)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER, f"{SECRET},{OTHER}"):
        verify(secret, headers, BODY, now=AT)


@pytest.mark.parametrize("text", ["", "hunter2", "whsec_???", "whsec_c2hvcnQ=", f"{SECRET},", "whsec_" + "A" * 88])
def test_a_secret_that_is_none_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        secrets_of(text)
    assert text == "" or text not in str(refused.value)


def test_a_secret_may_lack_its_padding() -> None:
    assert secrets_of("whsec_" + "QUJD" * 9 + "QQ") == secrets_of("whsec_" + "QUJD" * 9 + "QQ==")
