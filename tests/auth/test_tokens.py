"""Tokens of a real issuer: what is taken, what is refused and why, and how its keys are followed."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.warnings import InsecureKeyLengthWarning

from portico.auth.jwks import MOST_BYTES, RETRY_AFTER, SigningKeys, may_be_fetched, metadata_urls
from portico.auth.principal import SEEN_FOR, Authenticator, Principal
from portico.auth.tokens import LEEWAY, REMEMBERED_FOR, Tokens
from portico.errors import AuthUnavailable, Unauthenticated
from tests.auth.issuer import AUDIENCE, JWKS, KEYS, OAUTH, OPENID, Issuer, issuing, public

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.anyio


class Time:
    """Clocks that stand still until somebody moves them."""

    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return time.time() + self.passed

    def monotonic(self) -> float:
        return self.passed


@pytest.fixture
def issuer() -> Generator[Issuer]:
    with issuing() as one:
        yield one


@pytest.fixture
def clock() -> Time:
    return Time()


def gate(issuer: Issuer, clock: Time | None = None, *, url: str | None = None, **settings: Any) -> Authenticator:
    clock = clock or Time()
    keys = SigningKeys(issuer.url, url, monotonic=clock.monotonic)
    chosen: dict[str, Any] = {"audience": [AUDIENCE, "other"], "algorithms": ["RS256", "ES256", "EdDSA"], **settings}
    return Authenticator([], Tokens(keys, issuer=issuer.url, now=clock.now, **chosen), monotonic=clock.monotonic)


async def who(authenticator: Authenticator, token: str) -> Principal:
    with anyio.fail_after(20):
        return authenticator.known(token.encode()) or await authenticator.verified(token.encode())


async def refusal(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await who(authenticator, token)
    return raised.value.detail


@pytest.mark.parametrize("key_id", ["first", "second", "third"])
async def test_a_token_of_the_issuer_is_its_subject(issuer: Issuer, key_id: str) -> None:
    issuer.publish("first", "second", "third")

    assert await who(gate(issuer), issuer.token(key_id=key_id)) == Principal("alice", frozenset())


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "read  write"}, {"read", "write"}),
        ({"scp": "read write"}, {"read", "write"}),
        ({"scp": ["read", "write", 5]}, {"read", "write"}),
        ({"scope": "read", "scp": ["write"]}, {"read"}),
        ({"scope": 5}, set[str]()),
        ({}, set[str]()),
    ],
)
async def test_scopes_are_those_of_the_token(issuer: Issuer, claims: dict[str, Any], scopes: set[str]) -> None:
    assert (await who(gate(issuer), issuer.token(**claims))).scopes == scopes


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1_000_000_000}, "it has expired"),
        ({"exp": None}, "it has no claim 'exp'"),
        ({"exp": "soon"}, "it cannot be read"),
        ({"nbf": 4_000_000_000}, "it is not valid yet"),
        ({"aud": "somebody-else"}, "it is for another audience"),
        ({"aud": None}, "it has no claim 'aud'"),
        ({"iss": "https://evil.example"}, "it is of another issuer"),
        ({"iss": None}, "it has no claim 'iss'"),
        ({"sub": None}, "it has no claim 'sub'"),
        ({"sub": " "}, "its subject is blank"),
        ({"sub": "api-key"}, "its subject is a name of the gateway's own"),
    ],
)
async def test_a_claim_that_is_wrong_is_named(issuer: Issuer, claims: dict[str, Any], reason: str) -> None:
    assert await refusal(gate(issuer), issuer.token(**claims)) == f"The token is not valid: {reason}."


async def test_a_subject_that_is_no_text_is_refused(issuer: Issuer) -> None:
    algorithm, key = KEYS["first"]
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": 5, "exp": int(time.time()) + 60}
    token = jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers={"kid": "first"})

    assert "subject is no text" in await refusal(gate(issuer), token)


@pytest.mark.parametrize("expiry", ["Infinity", "1" + "0" * 400])
async def test_an_expiry_that_no_number_can_be_is_refused(issuer: Issuer, expiry: str) -> None:
    algorithm, key = KEYS["first"]
    claims = f'{{"iss": "{issuer.url}", "aud": "{AUDIENCE}", "sub": "alice", "exp": {expiry}}}'
    token = jwt.PyJWS().encode(claims.encode(), key, algorithm, headers={"kid": "first"})

    assert "cannot be read" in await refusal(gate(issuer), token)


async def test_clocks_may_differ_a_little(issuer: Issuer) -> None:
    now = int(time.time())

    await who(gate(issuer), issuer.token(exp=now - int(LEEWAY) + 10, nbf=now + int(LEEWAY) - 10))


async def test_a_signature_of_somebody_else_is_refused(issuer: Issuer) -> None:
    token = issuer.token(key_id="stranger", header={"kid": "first"})

    assert "signature is wrong" in await refusal(gate(issuer), token)


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_a_token_without_signature_is_refused(issuer: Issuer) -> None:
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 60}
    for algorithm in ("none", "None", "NONE", "", None, 5, ["RS256"]):
        assert "not valid" in await refusal(gate(issuer), unsigned({"alg": algorithm, "kid": "first"}, claims))


async def test_a_public_key_is_no_shared_secret(issuer: Issuer) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = KEYS["first"][1].public_key().public_bytes(serialization.Encoding.PEM, form)
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 60}
    head = unsigned({"alg": "HS256", "kid": "first"}, claims).rstrip(".")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, head.encode(), "sha256")).rstrip(b"=").decode()

    assert "algorithm" in await refusal(gate(issuer), f"{head}.{signature}")


async def test_an_algorithm_that_was_not_chosen_is_refused(issuer: Issuer) -> None:
    assert "algorithm" in await refusal(gate(issuer, algorithms=["ES256"]), issuer.token())


async def test_a_key_is_for_its_own_algorithm_alone(issuer: Issuer) -> None:
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, KEYS["first"][1], "PS256", headers={"kid": "first"})

    assert "its key" in await refusal(gate(issuer, algorithms=["RS256", "PS256"]), token)


async def test_a_key_that_names_no_algorithm_serves_every_one_of_its_kind(issuer: Issuer) -> None:
    issuer.documents[JWKS] = {"keys": [{name: value for name, value in public("first").items() if name not in ("alg", "use")}]}
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 60}
    both = gate(issuer, algorithms=["RS256", "PS256"])

    for algorithm in ("RS256", "PS256"):
        await who(both, jwt.encode(claims, KEYS["first"][1], algorithm, headers={"kid": "first"}))


async def test_a_key_for_encryption_verifies_nothing(issuer: Issuer) -> None:
    issuer.documents[JWKS] = {"keys": [{**public("first"), "use": "enc"}, "nonsense"]}

    assert "its key" in await refusal(gate(issuer), issuer.token())


async def test_a_short_key_verifies_nothing(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KEYS, "weak", ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    issuer.publish("weak")
    with pytest.warns(InsecureKeyLengthWarning):
        token = issuer.token(key_id="weak")

    assert "not valid" in await refusal(gate(issuer), token)


async def test_what_is_critical_and_unknown_is_refused(issuer: Issuer) -> None:
    token = issuer.token(header={"crit": ["exp"], "exp": 1})

    assert "cannot be read" in await refusal(gate(issuer), token)


async def test_a_token_without_key_id_is_verified_where_one_key_fits(issuer: Issuer) -> None:
    algorithm, key = KEYS["first"]
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "alice", "exp": int(time.time()) + 60}
    token = jwt.encode(claims, key, algorithm)

    await who(gate(issuer), token)
    issuer.publish("first", "stranger")
    assert "its key" in await refusal(gate(issuer), token)


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "..", "e30.e30.", "a" * 20_000 + ".b.c", "ÿ.ÿ.ÿ", "eyJhbGciOiJSUzI1NiJ9.e30.AA"]
)
async def test_what_is_no_token_is_refused(issuer: Issuer, text: str) -> None:
    assert "not valid" in await refusal(gate(issuer), text)


# --- the issuer's keys ------------------------------------------------------------------------------------------------


async def test_keys_are_fetched_once_for_all_who_wait(issuer: Issuer) -> None:
    issuer.gate.clear()
    authenticator = gate(issuer)
    tokens = [issuer.token(sub=f"user-{number}") for number in range(20)]
    found: list[str] = []

    async def ask(token: str) -> None:
        found.append((await who(authenticator, token)).name)

    async with anyio.create_task_group() as tasks:
        for token in tokens:
            tasks.start_soon(ask, token)
        await anyio.wait_all_tasks_blocked()
        issuer.gate.set()

    assert len(found) == 20
    assert issuer.asked == [OPENID, JWKS]


async def test_a_request_that_ends_while_it_fetches_keeps_no_other_from_fetching(issuer: Issuer) -> None:
    issuer.gate.clear()
    authenticator = gate(issuer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(who, authenticator, issuer.token())
        while not issuer.asked:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    issuer.gate.set()

    assert (await who(authenticator, issuer.token())).name == "alice"


async def test_the_loop_goes_on_while_keys_are_fetched(issuer: Issuer) -> None:
    issuer.gate.clear()
    authenticator = gate(issuer)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(who, authenticator, issuer.token())
        while not issuer.asked:
            await anyio.lowlevel.checkpoint()  # would never return if the fetch blocked
        issuer.gate.set()


async def test_a_new_key_is_found_when_a_token_names_it(issuer: Issuer, clock: Time) -> None:
    authenticator = gate(issuer, clock)
    await who(authenticator, issuer.token())
    issuer.publish("first", "second")
    clock.passed += RETRY_AFTER

    await who(authenticator, issuer.token(key_id="second"))


async def test_unknown_key_ids_do_not_make_the_gateway_ask_without_end(issuer: Issuer, clock: Time) -> None:
    authenticator = gate(issuer, clock)
    await who(authenticator, issuer.token())
    before = len(issuer.asked)
    for number in range(10):
        await refusal(authenticator, issuer.token(header={"kid": f"made-up-{number}"}))
    assert len(issuer.asked) == before

    clock.passed += RETRY_AFTER
    for number in range(10):
        await refusal(authenticator, issuer.token(header={"kid": f"made-up-{number}"}))
    assert issuer.asked[before:].count(JWKS) == 1


async def test_a_withdrawn_key_opens_nothing_once_the_keys_are_stale(issuer: Issuer, clock: Time) -> None:
    authenticator, token = gate(issuer, clock), issuer.token()
    await who(authenticator, token)
    issuer.publish("second")
    clock.passed += REMEMBERED_FOR

    assert "its key" in await refusal(authenticator, token)


@pytest.mark.parametrize(("said", "good_for"), [("max-age=60", 60), ("public, max-age=900", 900), ("max-age=0", 10), (None, 300)])
async def test_keys_are_good_for_as_long_as_their_server_says(issuer: Issuer, clock: Time, said: str | None, good_for: int) -> None:
    issuer.cache_control = said
    authenticator = gate(issuer, clock, url=issuer.url + JWKS)
    await who(authenticator, issuer.token())
    clock.passed = good_for - 0.1
    await who(authenticator, issuer.token(sub="bob"))
    assert issuer.asked == [JWKS]

    clock.passed = good_for + 0.1
    await who(authenticator, issuer.token(sub="carol"))
    assert issuer.asked == [JWKS, JWKS]


async def test_a_dead_key_server_takes_no_known_key_away(issuer: Issuer, clock: Time, caplog: pytest.LogCaptureFixture) -> None:
    authenticator = gate(issuer, clock)
    await who(authenticator, issuer.token())
    issuer.down = True
    clock.passed += 1000

    await who(authenticator, issuer.token(sub="bob"))
    assert "Those of before stay valid" in caplog.text


@pytest.mark.parametrize(
    "document", [b"<html>", b"[]", {"keys": "none"}, {}, b"[" * 100_000, b'{"keys": [' + b" " * MOST_BYTES + b"]}"], ids=range(6)
)
async def test_without_any_keys_nobody_can_tell_who_calls(issuer: Issuer, clock: Time, document: Any) -> None:
    good = issuer.documents[JWKS]
    issuer.documents[JWKS] = document
    authenticator = gate(issuer, clock)
    with pytest.raises(AuthUnavailable) as raised:
        await who(authenticator, issuer.token())
    assert 0 < raised.value.retry_after <= RETRY_AFTER

    issuer.documents[JWKS] = good
    clock.passed += RETRY_AFTER
    await who(authenticator, issuer.token())


async def test_a_server_that_is_gone_is_not_asked_by_each_request(issuer: Issuer, clock: Time) -> None:
    issuer.down = True
    authenticator = gate(issuer, clock, url=issuer.url + JWKS)
    for _ in range(5):
        with pytest.raises(AuthUnavailable):
            await who(authenticator, issuer.token())

    assert issuer.asked == [JWKS]


async def test_metadata_is_looked_for_in_both_places(issuer: Issuer) -> None:
    issuer.documents[OAUTH] = issuer.documents.pop(OPENID)

    await who(gate(issuer), issuer.token())
    assert issuer.asked == [OPENID, OAUTH, JWKS]


@pytest.mark.parametrize(
    "metadata",
    [{"issuer": "https://evil.example", "jwks_uri": "{url}/keys"}, {"issuer": "{url}", "jwks_uri": "http://192.0.2.1/keys"}],
)
async def test_metadata_that_cannot_be_trusted_gives_no_keys(issuer: Issuer, metadata: dict[str, str]) -> None:
    issuer.documents[OPENID] = {name: text.replace("{url}", issuer.url) for name, text in metadata.items()}

    with pytest.raises(AuthUnavailable):
        await who(gate(issuer), issuer.token())
    assert JWKS not in issuer.asked


def test_an_issuer_with_a_path_describes_itself_in_two_places() -> None:
    assert metadata_urls("https://id.example/realms/a/") == [
        "https://id.example/realms/a/.well-known/openid-configuration",
        "https://id.example/.well-known/oauth-authorization-server/realms/a",
    ]


def test_keys_come_over_https_or_from_this_machine() -> None:
    assert may_be_fetched("https://id.example/keys", plain=False)
    assert may_be_fetched("http://localhost:8080/keys", plain=False)
    assert not may_be_fetched("http://id.example/keys", plain=False)
    assert may_be_fetched("http://id.example/keys", plain=True)
    for text in ("file:///etc/passwd", "https://", "http://[", "keys"):
        assert not may_be_fetched(text, plain=True)


# --- what is remembered -----------------------------------------------------------------------------------------------


async def test_a_verified_token_is_remembered_until_it_expires(issuer: Issuer, clock: Time) -> None:
    authenticator = gate(issuer, clock)
    token = issuer.token(exp=int(time.time()) + 60).encode()
    assert authenticator.known(token) is None
    await authenticator.verified(token)

    clock.passed = 60 + LEEWAY - 5
    assert authenticator.known(token) == Principal("alice", frozenset())
    clock.passed = 60 + LEEWAY + 1
    assert authenticator.known(token) is None


async def test_not_more_tokens_are_remembered_than_fit(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.auth.tokens.REMEMBERED", 3)
    authenticator = gate(issuer)
    tokens = [issuer.token(sub=f"user-{number}").encode() for number in range(5)]
    for token in tokens:
        await authenticator.verified(token)

    assert [authenticator.known(token) is not None for token in tokens] == [False, False, True, True, True]


async def test_no_refused_token_is_remembered(issuer: Issuer) -> None:
    authenticator, token = gate(issuer), issuer.token(aud="somebody-else")
    await refusal(authenticator, token)

    assert authenticator.known(token.encode()) is None


async def test_a_credential_that_was_good_is_not_looked_up_by_each_request(issuer: Issuer, clock: Time) -> None:
    looks: list[bytes] = []

    class Keys:
        there = True

        def principal(self, credential: bytes, digest: bytes) -> Principal | None:
            looks.append(credential)
            return Principal("alice", frozenset()) if self.there and credential == b"good" else None

    keys = Keys()
    authenticator = Authenticator([keys], monotonic=clock.monotonic)
    for _ in range(10):
        assert authenticator.known(b"good") is not None
        assert authenticator.known(b"bad") is None
    assert looks.count(b"good") == 1
    assert looks.count(b"bad") == 10

    keys.there = False
    clock.passed = SEEN_FOR
    assert authenticator.known(b"good") is None
    assert authenticator.known(b"good") is None
