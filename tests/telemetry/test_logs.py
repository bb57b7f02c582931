"""Log lines say what they belong to, cannot be forged, and have no secrets in them, wherever they go."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from portico.errors import ConfigurationError
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from portico.telemetry.log_lines import LONGEST, JsonLines, TextLines
from portico.telemetry.logs import configure_logging
from portico.telemetry.redaction import Redaction, secrets_in
from tests.app.serving import served
from tests.telemetry.receiver import receiving
from tests.telemetry.trouble import KINDS, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

mine = logging.getLogger("mine")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Login(BaseModel):
    user: str
    password: SecretStr


class Talkative(AgentProcess):
    @operation
    async def say(self, text: str) -> str:
        mine.info("said %s", text)
        return text

    @operation
    def blocking(self) -> str:
        mine.info("in a thread")
        return "done"

    @operation
    async def onward(self) -> Any:
        return (await self.ask("other", {"text": "hi"}, "say")).payload

    @operation
    async def log_in(self, request: Login) -> str:
        mine.info("the password is %s", request.password.get_secret_value())
        return "in"

    @operation(idempotent=False)
    async def crash(self, request: Login) -> str:
        raise RuntimeError(f"nobody is {request.user} with {request.password.get_secret_value()}")


@contextmanager
def logged(form: Literal["text", "json"] = "json", **options: Any) -> Generator[io.StringIO]:
    """What is written meanwhile, as `configure_logging` has it."""
    root = logging.getLogger()
    before, level, stream = root.handlers[:], root.level, io.StringIO()
    configure_logging("info", form, stream=stream, **options)
    try:
        yield stream
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def lines(stream: io.StringIO, logger: str = "mine") -> list[dict[str, Any]]:
    every = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in every if line["logger"] == logger]


def readable(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines of agents as the form for people has them, taken apart."""
    form = re.compile(
        r"(?P<time>[-0-9]{10} [:0-9]{8},[0-9]{3}) (?P<level>[A-Z]+) +(?P<logger>mine): (?P<message>.*) \[(?P<known>.*)\]"
    )
    every = [found.groupdict() for line in stream.getvalue().splitlines() if (found := form.fullmatch(line)) is not None]
    return [{**line, "level": line["level"].lower(), **dict(re.findall(r"(\w+)=(\S*)", line.pop("known")))} for line in every]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.anyio
async def test_a_line_of_an_agent_says_request_run_trace_agent_and_caller_also_from_a_thread_and_further_on(
    form: Literal["text", "json"],
) -> None:
    with logged(form) as stream:
        async with served(Talkative("talker"), Talkative("other"), api_key="right") as one:
            headers = {"x-api-key": "right", "traceparent": TRACE, "x-request-id": "request-7"}
            for path, body in (("say", {"text": "hi"}), ("blocking", {}), ("onward", {})):
                answered = await one.client.post(f"/agents/talker/{path}", json=body, headers=headers)
                assert answered.status_code == 200
    found = lines(stream) if form == "json" else readable(stream)
    assert [line["message"] for line in found] == ["said hi", "in a thread", "said hi"]
    assert [line["agent"] for line in found] == ["talker", "talker", "other"]
    assert {line["request_id"] for line in found} == {"request-7"}
    assert {line["trace_id"] for line in found} == {TRACE[3:35]}
    assert {line["principal"] for line in found} == {"api-key"}
    assert len({line["run_id"] for line in found}) == 3
    assert list(found[0])[:4] == ["time", "level", "logger", "message"]
    assert found[0]["level"] == "info"


@pytest.mark.anyio
async def test_neither_the_line_of_a_crash_nor_any_other_has_the_values_of_secret_fields() -> None:
    with logged() as stream:
        async with served(Talkative("talker")) as one:
            body = {"user": "bob", "password": "correct horse"}
            assert (await one.client.post("/agents/talker/log_in", json=body)).status_code == 200
            crashed = await one.client.post("/agents/talker/crash", json=body)
            assert crashed.status_code == 502
    assert "correct horse" not in stream.getvalue()
    assert [line["message"] for line in lines(stream)] == ["the password is ***"]
    (report,) = lines(stream, "portico.kernel")
    assert "nobody is bob with ***" in report["exception"]
    assert report["run_id"] == crashed.json()["run_id"]
    assert report["agent"] == "talker"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_text_can_forge_a_line_or_reach_the_terminal(form: Literal["text", "json"]) -> None:
    nasty = "a\n2026-01-01 00:00:00,000 ERROR   mine: forged\r\x1b[31m\x85\u2028\x7f\x00b"
    with logged(form) as stream:
        try:
            raise RuntimeError(nasty)
        except RuntimeError:
            mine.error("%s", nasty, exc_info=True, extra={"own": nasty})
        logging.getLogger(nasty).error("x")
    written = stream.getvalue()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", written)
    starts = [line for line in written.split("\n") if line and not line.startswith("    ")]
    assert len(starts) == 2
    assert sum("forged" in line for line in starts) == (2 if form == "json" else 0)


def test_a_line_for_people_says_what_it_belongs_to_and_has_colours_only_where_somebody_sees_them() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    record = logging.makeLogRecord({"name": "mine", "levelno": 30, "levelname": "WARNING", "msg": "hm", "number": 7})
    assert re.fullmatch(r"[-0-9]{10} [:0-9]{8},[0-9]{3} WARNING mine: hm \[number=7\]", TextLines(Redaction()).format(record))
    for stream, environ, coloured in (
        (Terminal(), {"TERM": "xterm"}, True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {"TERM": "xterm"}, False),
    ):
        root = logging.getLogger()
        before, level = root.handlers[:], root.level
        try:
            configure_logging("info", stream=stream, environ=environ)
            mine.warning("hm")
        finally:
            root.handlers[:] = before
            root.setLevel(level)
        assert ("\x1b[33mWARNING\x1b[0m" in stream.getvalue()) is coloured


def test_a_long_text_is_cut_and_arguments_that_do_not_fit_are_no_traceback() -> None:
    for formatter in (JsonLines(Redaction()), TextLines(Redaction())):
        long = formatter.format(logging.makeLogRecord({"msg": "x" * 2_000_000}))
        assert len(long) < LONGEST + 300
        assert "arguments cannot be written" in formatter.format(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))


@pytest.mark.parametrize("level", ["loud", ""])
def test_unknown_levels_and_forms_are_refused(level: str) -> None:
    with pytest.raises(ConfigurationError, match="log level"):
        configure_logging(level)
    with pytest.raises(ConfigurationError, match="form"):
        configure_logging("info", "xml")  # pyright: ignore[reportArgumentType]  # the point of it


# --- secrets ----------------------------------------------------------------------------------------------------------

SECRET = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=8, max_size=30)
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=16, max_size=40)
ROUND = st.text("abc \n.,:;=/'\"{}[]()é", max_size=12)
FORMS = (
    "Authorization: Bearer {}",
    "authorization={}",
    "{{'Authorization': 'Basic {}'}}",
    '{{"api_key": "{}"}}',
    '{{\\"api_key\\": \\"{}\\"}}',
    "[(b'host', b'x'), (b'authorization', b'Bearer {}')]",
    "(b'x-api-key', b'{}')",
    "Cookie: session={}",
    "bearer {}",
    "password={}",
    "OPENAI_API_KEY={}",
    "client_secret: {}",
    "https://alice:{}@example.com/path",
    "postgresql://alice:{}@db",
    "GET /x?access_token={}&y=1",
    "portico_0123456789ab_{}",
    "portico.bearer.portico_0123456789ab_{}",
    "sk-proj-{}",
    "whsec_{}",
    "ghp_{}",
    "eyJhbGciOiJIUzI1NiJ9.{}.sig",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
)
"""Where a secret that nobody has told of is found all the same."""


PLACES: list[Callable[[str], dict[str, Any]]] = [
    lambda text: {"msg": text.replace("%", "%%")},
    lambda text: {"msg": "%s", "args": (text,)},
    lambda text: {"msg": "%s", "args": ({"a": [text]},)},
    lambda text: {"msg": "x", "stack_info": text},
    lambda text: {"msg": "x", "own": {"deep": [text]}},
    lambda text: {"msg": "x", "error": ValueError(text, {"in": text})},
    lambda text: {"msg": "x", "error": KeyError(text)},
]
"""The parts of a record that a text can be in."""


def raised(values: dict[str, Any]) -> logging.LogRecord:
    """A record of an error, with its traceback."""
    error = values.pop("error")
    try:
        raise error
    except (ValueError, KeyError) as caught:
        return logging.makeLogRecord({**values, "exc_info": (type(caught), caught, caught.__traceback__)})


@settings(max_examples=150, deadline=None)
@given(secrets=st.lists(SECRET, min_size=1, max_size=4), before=ROUND, after=ROUND, where=st.integers(0, 6))
def test_no_known_secret_comes_out_of_any_part_of_a_record(secrets: list[str], before: str, after: str, where: int) -> None:
    redaction = Redaction(secrets)
    for secret in secrets:
        text = f"{before}{secret}{after}"
        record = (logging.makeLogRecord if where < 5 else raised)({"name": "mine", "levelname": "INFO", **PLACES[where](text)})
        for formatter in (JsonLines(redaction), TextLines(redaction)):
            written = formatter.format(record)
            shown = json.loads(written) if isinstance(formatter, JsonLines) else written
            for spelling in {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]}:
                if spelling not in ("nothing", "***"):
                    assert spelling not in str(shown).replace("***", "")
                    assert spelling not in written.replace("***", "")


@settings(max_examples=40, deadline=None)
@given(secret=TOKEN, before=ROUND)
@pytest.mark.parametrize("form", FORMS)
def test_what_looks_like_a_credential_comes_out_masked(form: str, secret: str, before: str) -> None:
    text = f"{before} {form.format(secret)} and so on"
    assert secret not in Redaction()(text)


def test_what_helps_to_find_a_credential_again_stays_and_so_does_everything_else() -> None:
    redact = Redaction()
    assert redact("portico_0123456789ab_abcdefgh is revoked") == "portico_0123456789ab_*** is revoked"
    assert redact("https://alice:pw@example.com/a?b=c") == "https://alice:***@example.com/a?b=c"
    plain = "ask took 12 ms: tokens_in=5 for https://example.com/agents/echo, the keyboard is basic, author=me"
    assert redact(plain) == plain
    assert redact.plain({"api_key": "abc", "list": ["password=abc", 1, None]}) == {
        "api_key": "***",
        "list": ["password=***", 1, None],
    }
    assert set(secrets_in({"A_TOKEN": "one", "deep": {"password": "two", "list": [{"api_key": "three"}]}, "PATH": "four"})) == {
        "one",
        "two",
        "three",
    }


@pytest.mark.parametrize(
    "text", ["a." * 200_000, "password" * 30_000, "://a:" * 60_000, "eyJaaaaa-" * 30_000, "token=" * 40_000, "'" * 200_000]
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    Redaction(["secret"])(text[: 256 * 1024])
    assert time.process_time() - begun < 5


# --- OTLP -------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_lines_arrive_at_an_endpoint_with_what_they_belong_to_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, logged():
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{receiver.endpoint}/v1/logs")
        async with served(Talkative("talker"), api_key="right-key") as one:
            headers = {"x-api-key": "right-key", "traceparent": TRACE}
            answered = await one.client.post("/agents/talker/say", json={"text": "right-key"}, headers=headers)
            assert answered.status_code == 200
        mine.info("after the end")
    (record,) = [record for record in receiver.logs if record.proto.severity_text == "INFO" and "said" in str(record.body)]
    assert record.body == "said ***"
    assert record.trace == TRACE[3:35]
    assert record.attributes["portico.agent"] == "talker"
    assert record.attributes["user.id"] == "api-key"
    assert record.attributes["portico.run_id"]
    assert "right-key" not in repr(receiver.logs)
    assert "after the end" not in repr(receiver.logs)


@pytest.mark.anyio
async def test_two_gateways_of_one_program_send_a_line_once_and_without_the_secrets_of_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiving() as receiver, logged():
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{receiver.endpoint}/v1/logs")
        async with served(Talkative("talker"), api_key="right-key"):
            async with served(Talkative("other"), api_key="other-key"):
                mine.info("both: right-key other-key")
            mine.info("one: right-key")

    bodies = [str(record.body) for record in receiver.logs]
    assert [body for body in bodies if body.startswith(("both", "one"))] == ["both: *** ***", "one: ***"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.anyio
async def test_an_endpoint_in_trouble_holds_nobody_up_and_is_complained_about_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BLRP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with trouble(kind) as endpoint, logged() as stream, anyio.fail_after(40):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", f"{endpoint}/v1/logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{endpoint}/v1/traces")
        async with served(Talkative("talker")) as one:
            for _ in range(30):
                began = time.monotonic()
                assert (await one.client.post("/agents/talker/say", json={"text": "hi"})).status_code == 200
                assert time.monotonic() - began < 5  # an endpoint may hold its exporter for ten
            ended = time.monotonic()
        assert time.monotonic() - ended < 10
    every = [json.loads(line) for line in stream.getvalue().splitlines()]
    theirs = ("opentelemetry", "portico.telemetry", "urllib3", "requests")
    assert len([line for line in every if line["logger"] == "mine"]) == 30
    complaints = [line for line in every if line["logger"].startswith(theirs)]
    assert len(complaints) <= 1, complaints
    assert complaints or kind not in ("down", "errors")
