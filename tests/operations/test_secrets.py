"""Secret fields: wherever a contract has them, a value that may be written down does not contain them."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
    computed_field,
    field_serializer,
)
from typing_extensions import TypedDict

from portico.errors import InvalidOperation
from portico.kernel.process import AgentProcess
from portico.operations.contract import ANYTHING, Contract
from portico.operations.decorators import operation
from portico.operations.operation import Operation
from portico.operations.secrets import MASK, masked, places_of

S = "s3cret"
"""A secret value."""
M = MASK
"""What it becomes."""
Marked = Annotated[str, Field(json_schema_extra={"secret": True})]
"""A text that is secret by declaration."""


class Login(BaseModel):
    """The usual one."""

    user: str
    password: SecretStr


class Tree(BaseModel):
    """Leads to itself."""

    key: SecretStr | None = None
    children: list[Tree] = []
    named: dict[str, Tree] = {}


class Card(BaseModel):
    """One member of a union."""

    kind: Literal["card"]
    number: Marked


class Cash(BaseModel):
    """The other one."""

    kind: Literal["cash"]
    amount: float


@dataclass
class Account:
    """A dataclass with an alias."""

    token: Annotated[SecretStr, Field(alias="Token")]
    notes: list[str] = field(default_factory=list[str])


class Pair(TypedDict, total=False):
    """A typed dict."""

    left: str
    right: SecretBytes


class Open(BaseModel):
    """Any other member is secret too."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SecretStr]  # pyright: ignore[reportIncompatibleVariableOverride]  # pydantic's way to type them
    name: str = ""


class Aliased(BaseModel):
    """Goes by several names."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)
    a: SecretStr = Field(default=SecretStr(""), alias="A")
    b: SecretStr = Field(default=SecretStr(""), validation_alias=AliasChoices("b1", "b2", AliasPath("deep", 1, "b")))
    c: Marked = Field(default="", validation_alias=AliasPath("pair", 0))


class Whole(RootModel[dict[str, int]]):
    """A type that is secret as a whole."""

    model_config = ConfigDict(json_schema_extra={"writeOnly": True})


class Unprintable(BaseModel):
    """A member of it has no JSON Schema."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    password: SecretStr
    other: Contract


def request(kind: Any) -> Contract:
    return Contract("op", kind, ANYTHING)


def reply(kind: Any) -> Contract:
    return Contract("op", ANYTHING, kind)


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        (SecretStr, S, M),
        (SecretBytes, S, M),
        (Secret[int], 77, M),
        (Marked, S, M),
        (Login, {"user": "u", "password": S}, {"user": "u", "password": M}),
        (Login | None, {"user": "u", "password": S}, {"user": "u", "password": M}),
        (list[Login], [{"user": "u", "password": S}] * 2, [{"user": "u", "password": M}] * 2),
        (list[Marked], [S, S], [M, M]),
        (dict[str, SecretStr], {"a": S}, {"a": M}),
        (dict[Annotated[str, StringConstraints(pattern="^x")], SecretStr], {"xa": S}, {"xa": M}),
        (dict[str, dict[str, Login]], {"a": {"b": {"user": "u", "password": S}}}, {"a": {"b": {"user": "u", "password": M}}}),
        (dict[SecretStr, int], {S: 1}, M),
        (tuple[str, SecretStr], ["u", S], ["u", M]),
        (tuple[SecretStr, ...], [S, S], [M, M]),
        (set[SecretStr], [S], [M]),
        (Pair, {"left": "l", "right": S}, {"left": "l", "right": M}),
        (Account, {"Token": S, "notes": ["n"]}, {"Token": M, "notes": ["n"]}),
        (Card | Cash, {"kind": "card", "number": S}, {"kind": "card", "number": M}),
        (Annotated[Card | Cash, Field(discriminator="kind")], {"kind": "card", "number": S}, {"kind": "card", "number": M}),
        (Tree, {"children": [{"named": {"x": {"key": S}}}]}, {"children": [{"named": {"x": {"key": M}}}]}),
        (Open, {"name": "n", "else": S}, {"name": "n", "else": M}),
        (Aliased, {"A": S, "b1": S}, {"A": M, "b1": M}),
        (Aliased, {"a": S, "b": S, "c": S}, {"a": M, "b": M, "c": M}),
        (Aliased, {"b2": S, "deep": [{}, {"b": S}], "pair": [S]}, {"b2": M, "deep": [{}, {"b": M}], "pair": [M]}),
        (Whole, {"a": 1}, M),
        (Json[Login], json.dumps({"user": "u", "password": S}), M),
        (dict[str, Json[list[SecretStr]]], {"a": f'["{S}"]'}, {"a": M}),
        (Unprintable, {"password": S, "other": 5}, {"password": M, "other": 5}),
        (SecretStr | int, 5, M),
        (Annotated[dict[str, Any], Field(json_schema_extra={"secret": True})], {"a": [S]}, M),
    ],
    ids=str,
)
def test_a_secret_of_any_type_is_masked_in_a_request(kind: Any, payload: Any, expected: Any) -> None:
    before = deepcopy(payload)
    assert request(kind).without_secrets(payload) == (expected, True)
    assert payload == before


NONE_THERE: list[tuple[Any, Any]] = [
    (ANYTHING, {"password": S}),
    (Cash, {"kind": "cash", "amount": 1.0}),
    (list[str], ["password"]),
    (Tree, {"key": None, "children": [{"named": {}}]}),
    (Login, {"user": "u"}),
    (Login, {"user": "u", "password": M}),
    (Login, ["not", "an", "object"]),
    (list[SecretStr], {"not": "a list"}),
    (tuple[str, SecretStr], ["only the first"]),
    (Card | Cash, {"kind": "cash", "amount": 1.0}),
    (Open, {"name": "n"}),
    (SecretStr | None, None),
]


@pytest.mark.parametrize(("kind", "payload"), NONE_THERE, ids=str)
def test_without_a_secret_it_is_the_very_same_payload(kind: Any, payload: Any) -> None:
    found, any_masked = request(kind).without_secrets(payload)
    assert found is payload
    assert not any_masked


def test_what_has_no_secret_below_is_shared_and_not_copied() -> None:
    class Big(BaseModel):
        login: Login
        documents: list[dict[str, Any]]

    payload: dict[str, Any] = {"login": {"user": "u", "password": S}, "documents": [{"a": 1}], "unknown": {"b": 2}}
    found, _ = request(Big).without_secrets(payload)
    assert found["documents"] is payload["documents"]
    assert found["unknown"] is payload["unknown"]
    assert list(found) == list(payload)
    assert payload["login"]["password"] == S


class Sealed(dict[str, Any]):
    """A payload that nobody may look into."""

    def keys(self) -> Any:
        raise AssertionError


def test_a_payload_is_not_looked_at_where_its_contract_has_no_secret() -> None:
    payload = Sealed()
    assert request(Cash).without_secrets(payload)[0] is payload
    with pytest.raises(AssertionError):
        request(Login).without_secrets(payload)


def test_a_contract_reads_its_types_for_secrets_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Contract("op", Login, Cash)
    both.without_secrets({})
    both.reply_without_secrets({})
    monkeypatch.setattr(Contract, "_places", None)
    assert both.without_secrets({"password": S}) == ({"password": M}, True)
    assert both.reply_without_secrets({"amount": 1}) == ({"amount": 1}, False)


def test_parameters_of_a_method_can_be_secret() -> None:
    class Agent(AgentProcess):
        @operation
        async def login(self, user: str, password: SecretStr, pin: Marked = "") -> None: ...

    found = Agent.operations["login"]
    assert isinstance(found, Operation)
    payload = {"user": "u", "password": S, "pin": S}
    assert found.contract.without_secrets(payload) == ({"user": "u", "password": M, "pin": M}, True)


def test_a_type_whose_schema_cannot_be_made_is_told() -> None:
    class Strange:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            return handler(int)

        @classmethod
        def __get_pydantic_json_schema__(cls, source: Any, handler: Any) -> Any:
            raise ZeroDivisionError("no schema")

    with pytest.raises(InvalidOperation, match="The secrets of the operation 'op' cannot be found: no schema"):
        request(Strange).without_secrets(1)


# --- replies ----------------------------------------------------------------------------------------------------------


class Issued(BaseModel):
    """A reply that tells its secrets to the caller."""

    token: SecretStr = Field(serialization_alias="Token")
    id: int
    hint: Marked

    @field_serializer("token")
    def openly(self, token: SecretStr) -> str:
        return token.get_secret_value()

    @computed_field(alias="Backup", json_schema_extra={"secret": True})
    @property
    def backup(self) -> str:
        return self.hint


def test_a_secret_of_a_reply_is_masked_even_where_its_model_prints_it_openly() -> None:
    contract = reply(Issued)
    given_out = contract.reply("agent", Issued(token=SecretStr(S), id=1, hint=S))
    assert json.dumps(given_out).count(S) == 3
    stored, any_masked = contract.reply_without_secrets(given_out)
    assert (stored["id"], any_masked) == (1, True)
    assert S not in json.dumps(stored)


@pytest.mark.parametrize("name", ["token", "Token", "hint", "backup", "Backup"])
def test_a_secret_of_a_reply_is_masked_under_every_name(name: str) -> None:
    assert reply(Issued).reply_without_secrets({name: S}) == ({name: M}, True)


def test_a_reply_that_pydantic_has_masked_already_is_the_very_same() -> None:
    contract = reply(Login)
    given_out = contract.reply("agent", Login(user="u", password=SecretStr(S)))
    stored, any_masked = contract.reply_without_secrets(given_out)
    assert stored is given_out
    assert not any_masked


def test_request_and_reply_have_secrets_of_their_own() -> None:
    both = Contract("op", Login, dict[str, str])
    assert both.reply_without_secrets({"password": S}) == ({"password": S}, False)


# --- schemas ----------------------------------------------------------------------------------------------------------

HIDDEN: dict[str, Any] = {"type": "string", "writeOnly": True}


KEYWORDS: list[tuple[Any, Any, Any]] = [
    ({"format": "password"}, S, M),
    ({"secret": True}, S, M),
    ({"secret": "yes", "writeOnly": "true"}, S, S),  # only true is true
    ({"properties": {"secret": {"type": "string"}, "format": {"const": "password"}}}, {"secret": S}, {"secret": S}),
    ({"$ref": "#/$defs/a~1b%25", "$defs": {"a/b%": HIDDEN}}, S, M),
    ({"properties": {"a": {"$ref": "#"}, "b": HIDDEN}}, {"a": {"a": {"b": S}}}, {"a": {"a": {"b": M}}}),
    ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, S, S),
    ({"$ref": "#/$defs/missing"}, S, S),
    ({"$ref": "https://example.com/other"}, S, S),
    ({"$ref": "#/$defs/a", "properties": {"b": HIDDEN}, "$defs": {"a": {}}}, {"b": S}, {"b": M}),
    ({"allOf": [{"properties": {"a": HIDDEN}}, {"properties": {"b": HIDDEN}}]}, {"a": S, "b": S}, {"a": M, "b": M}),
    ({"properties": {"a": {}}, "additionalProperties": HIDDEN}, {"a": 1, "b": S}, {"a": 1, "b": M}),
    (
        {"anyOf": [{"properties": {"a": {}}, "additionalProperties": HIDDEN}, {"properties": {"b": {}}}]},
        {"a": 1, "b": S},
        {"a": 1, "b": M},
    ),
    ({"prefixItems": [True, HIDDEN], "items": False}, [1, S, 3], [1, M, 3]),
    ({"prefixItems": [{}], "items": HIDDEN}, [1, S, S], [1, M, M]),
    ({"prefixItems": [HIDDEN]}, [], []),
    ({"contains": HIDDEN}, [S], [M]),
    ({"oneOf": [{"items": HIDDEN}, {"prefixItems": [{}, {}]}]}, [S, S], [M, M]),
    ({"if": {}, "then": {"properties": {"a": HIDDEN}}, "else": {"properties": {"b": HIDDEN}}}, {"b": S}, {"b": M}),
    ({"dependentSchemas": {"x": {"properties": {"a": HIDDEN}}}}, {"a": S}, {"a": M}),
    ({"items": HIDDEN}, (S, "b"), [M, M]),
    (True, S, S),
]


@pytest.mark.parametrize(("schema", "value", "expected"), KEYWORDS, ids=str)
def test_every_keyword_of_a_schema_is_followed(schema: Any, value: Any, expected: Any) -> None:
    assert masked(value, places_of(schema)) == (expected, value != expected)


def test_what_is_nested_too_deep_to_be_looked_at_is_masked_as_a_whole() -> None:
    value: Any = S
    for _ in range(100_000):
        value = [value]
    where = places_of({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}, "properties": {"b": HIDDEN}}}})
    assert masked(value, where) == (MASK, True)


NAMES = st.sampled_from(["a", "b", "c", "d"])
Sample = tuple[dict[str, Any], Any, Any]
"""A schema, a value that it describes, and that value without its secrets."""
LEAVES: st.SearchStrategy[Sample] = st.one_of(
    st.integers().map(lambda number: ({"type": "integer"}, number, number)),
    st.text(max_size=3).map(lambda text: ({"type": "string"}, text, text)),
    st.sampled_from([{"secret": True}, HIDDEN, {"type": "string", "format": "password"}]).map(lambda schema: (schema, S, M)),
    st.sampled_from([[S], {"x": {"y": S}}]).map(lambda value: ({"secret": True, "type": ["array", "object"]}, value, M)),
)


def an_object(members: dict[str, Sample]) -> Sample:
    schemas, values, expected = ({name: member[part] for name, member in members.items()} for part in range(3))
    return {"type": "object", "properties": schemas}, values, expected


def a_mapping(keyword: str, names: list[str], member: Sample) -> Sample:
    schema, value, expected = member
    members: Any = {"^": schema} if keyword == "patternProperties" else schema
    return {"type": "object", keyword: members}, dict.fromkeys(names, value), dict.fromkeys(names, expected)


def an_array(first: list[Sample], rest: Sample, more: int) -> Sample:
    schemas, values, expected = ([item[part] for item in first] for part in range(3))
    schema = {"type": "array", "prefixItems": schemas, "items": rest[0]}
    return schema, [*values, *[rest[1]] * more], [*expected, *[rest[2]] * more]


def a_union(keyword: str, members: list[Sample]) -> Sample:
    """A value of its first member. What it is without its secrets is not told: another member may call more of it secret."""
    return {keyword: [member[0] for member in members]}, members[0][1], None


def referred_to(target: Sample) -> Sample:
    """The same by way of a definition, which stands in the schema itself and is lifted to the top later."""
    return ({"$ref": target[0]}, *target[1:])


def composed(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    return st.one_of(
        st.dictionaries(NAMES, inner, max_size=3).map(an_object),
        st.builds(a_mapping, st.sampled_from(["additionalProperties", "patternProperties"]), st.lists(NAMES, max_size=2), inner),
        st.builds(an_array, st.lists(inner, max_size=2), inner, st.integers(0, 2)),
        inner.map(referred_to),
    )


def united(inner: st.SearchStrategy[Sample]) -> st.SearchStrategy[Sample]:
    members = st.lists(inner, min_size=1, max_size=3)
    return composed(inner) | st.builds(a_union, st.sampled_from(["anyOf", "oneOf", "allOf"]), members)


def lifted(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with its definitions where they belong."""
    if isinstance(schema, list):
        return [lifted(item, definitions) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {key: lifted(value, definitions) for key, value in cast("dict[str, Any]", schema).items()}
    if isinstance(found.get("$ref"), dict):
        name = f"D{len(definitions)}"
        definitions[name] = found["$ref"]
        found["$ref"] = f"#/$defs/{name}"
    return found


def document(schema: dict[str, Any]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    top = lifted(schema, definitions)
    return {**top, "$defs": definitions}


@given(st.recursive(LEAVES, composed, max_leaves=12))
def test_exactly_what_the_schema_calls_secret_is_masked(sample: Sample) -> None:
    schema, value, expected = sample
    before = deepcopy(value)
    found, any_masked = masked(value, places_of(document(schema)))
    assert found == expected
    assert any_masked == (S in json.dumps(value))
    assert (found is value) != any_masked
    assert value == before


@given(st.recursive(LEAVES, united, max_leaves=12))
def test_a_secret_planted_anywhere_the_schema_says_never_stays(sample: Sample) -> None:
    schema, value, _ = sample
    found, any_masked = masked(value, places_of(document(schema)))
    assert S not in json.dumps(found)
    assert any_masked == (found != value)
    assert masked(found, places_of(document(schema))) == (found, False)
