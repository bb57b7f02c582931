"""Whether there is telemetry, where it goes, and that it never harms what it watches."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from portico.errors import ConfigurationError
from portico.kernel.messages import Message
from portico.telemetry.complaints import LOGGERS, PERIOD, Complaints
from portico.telemetry.otlp import exporter_of
from portico.telemetry.outlets import Outlets
from portico.telemetry.setup import configure, logs
from portico.telemetry.target import GRPC, HTTP, Signal, otlp_target
from tests.openapi.serving import served
from tests.telemetry.receiver import receiving, receiving_grpc
from tests.telemetry.sample import environ_of, gateway

if TYPE_CHECKING:
    from collections.abc import Mapping


def program(code: str) -> str:
    """What a program prints, with nothing loaded before."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1"},
        environ_of("http://127.0.0.1:1", OTEL_SDK_DISABLED="true"),
        environ_of("http://127.0.0.1:1", OTEL_TRACES_EXPORTER="none"),
        environ_of("", OTEL_TRACES_EXPORTER="otlp"),
    ],
    ids=str,
)
def test_without_an_endpoint_for_traces_there_is_no_telemetry(environ: Mapping[str, str]) -> None:
    assert configure(environ) is None


def test_without_an_endpoint_nothing_of_the_sdk_is_imported() -> None:
    loaded = program(
        "import sys; from portico.telemetry.setup import configure; assert configure({}) is None;"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )

    assert loaded == "[]"


def test_an_endpoint_without_the_extra_names_the_install_line() -> None:
    said = program(
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from portico.telemetry.setup import configure\n"
        "from portico.errors import MissingExtra\n"
        "try: configure({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'})\n"
        "except MissingExtra as error: print(error)"
    )

    assert said.endswith("Install it with: pip install 'portico[otel]'")


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (environ_of("127.0.0.1:4318"), "OTEL_EXPORTER_OTLP_ENDPOINT is '127.0.0.1:4318': it must be an address"),
        (
            environ_of("http://127.0.0.1:4318", OTEL_EXPORTER_OTLP_PROTOCOL="http/json"),
            "Portico sends http/protobuf (by default to",
        ),
        (environ_of("http://127.0.0.1:4318", OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="thrift"), "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is"),
        (environ_of("ftp://127.0.0.1:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc"), "must be an address"),
        (environ_of("http://127.0.0.1:port"), "must be an address"),
        (environ_of("http://127.0.0.1:1", OTEL_TRACES_EXPORTER="oltp"), "Did you mean 'otlp'?"),
        (environ_of("http://127.0.0.1:1", OTEL_LOGS_EXPORTER="file"), "OTEL_LOGS_EXPORTER is 'file'"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_sentence(environ: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(environ)

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{}"}, "/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "{}/otlp/"}, "/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "{}/mine"}, "/mine"),
    ],
)
def test_traces_go_where_the_specification_says(environ: Mapping[str, str], path: str) -> None:
    with receiving() as receiver:
        send_one({name: value.format(receiver.endpoint) for name, value in environ.items()})

    assert receiver.paths == [path]


@pytest.mark.parametrize(
    ("more", "name"),
    [({}, "portico"), ({"OTEL_SERVICE_NAME": "mine"}, "mine"), ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=ours"}, "ours")],
    ids=str,
)
def test_the_service_is_called_as_the_environment_says(more: Mapping[str, str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in more.items():
        monkeypatch.setenv(variable, value)
    with receiving() as receiver:
        send_one(environ_of(receiver.endpoint, **more))

    assert [span.service for span in receiver.spans] == [name]


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_traces_go_over_grpc_where_that_is_said(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20abc")
    with receiving_grpc() as receiver:
        send_one(environ_of(receiver.endpoint, **{variable: "grpc"}))

    assert [span.name for span in receiver.spans] == ["handle agent.message"]
    assert receiver.headers[0]["authorization"] == "Bearer abc"


@pytest.mark.parametrize("signal", list(Signal))
@pytest.mark.parametrize("protocol", [HTTP, GRPC])
def test_there_is_an_exporter_for_every_signal_over_every_protocol(signal: Signal, protocol: str) -> None:
    target = otlp_target(environ_of("http://127.0.0.1:1", OTEL_EXPORTER_OTLP_PROTOCOL=protocol), signal)
    assert target is not None
    exporter = exporter_of(target)

    assert target.endpoint == ("http://127.0.0.1:1" if protocol == GRPC else f"http://127.0.0.1:1/v1/{signal}")
    exporter.shutdown()


def test_an_endpoint_over_grpc_without_its_extra_names_the_install_line() -> None:
    said = program(
        "import sys; sys.modules['grpc'] = None\n"
        "from portico.telemetry.setup import configure\n"
        "from portico.errors import MissingExtra\n"
        "try: configure({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1', 'OTEL_EXPORTER_OTLP_PROTOCOL': 'grpc'})\n"
        "except MissingExtra as error: print(error)"
    )

    assert said.endswith("Install it with: pip install 'portico[otel-grpc]'")


def test_spans_are_printed_to_standard_error_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    send_one({"OTEL_TRACES_EXPORTER": "console"})

    printed = capsys.readouterr()
    assert '"name": "handle agent.message"' in printed.err
    assert printed.out == ""


def send_one(environ: Mapping[str, str]) -> None:
    telemetry = configure(environ)
    assert telemetry is not None
    with telemetry.observer.handling(Message(recipient="agent")):
        pass
    telemetry.shutdown()


@pytest.mark.parametrize(("share", "fewest", "most"), [("0", 0, 0), ("0.5", 60, 140), ("1", 200, 200)])
def test_as_many_traces_are_recorded_as_the_environments_sampler_says_and_each_of_them_whole(
    share: str, fewest: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    with receiving() as receiver:
        telemetry = configure(environ_of(receiver.endpoint))
        assert telemetry is not None
        for _ in range(200):
            with telemetry.observer.handling(Message(recipient="front")) as traceparent:
                assert traceparent is not None
                with telemetry.observer.handling(Message(recipient="back", traceparent=traceparent)):
                    pass
        telemetry.shutdown()

    found = Counter(span.trace for span in receiver.spans)
    assert fewest <= len(found) <= most
    assert set(found.values()) <= {2}


def test_a_caller_who_has_decided_is_followed_whatever_share_the_sampler_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with receiving() as receiver:
        telemetry = configure(environ_of(receiver.endpoint))
        assert telemetry is not None
        for flags in ("00", "01"):
            with telemetry.observer.handling(Message(recipient=f"agent-{flags}", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-{flags}")):
                pass
        telemetry.shutdown()

    assert [span.name for span in receiver.spans] == ["handle agent-01.message"]


@pytest.mark.parametrize(
    ("variable", "limit", "count", "longest"),
    [("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2", 2, 99), ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3", 4, 3)],
)
def test_the_environments_limits_of_attributes_hold(
    variable: str, limit: str, count: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, limit)
    with receiving() as receiver:
        send_one(environ_of(receiver.endpoint))

    (span,) = receiver.spans
    assert len(span.attributes) == count
    assert all(len(value) <= longest for value in span.attributes.values() if isinstance(value, str))


def test_no_global_provider_is_set() -> None:
    said = program(
        "from opentelemetry import trace; from portico.telemetry.setup import configure;"
        "before = trace.get_tracer_provider(); configure({'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'}).shutdown();"
        "print(trace.get_tracer_provider() is before)"
    )

    assert said == "True"


def test_two_gateways_of_one_process_send_to_two_endpoints() -> None:
    with receiving() as one, receiving() as other:
        here, there = gateway(environ_of(one.endpoint)), gateway(environ_of(other.endpoint))
        with served(here) as first, served(there) as second:
            httpx.post(f"{first}/back/message", json={"marker": "m"})
            httpx.post(f"{second}/front/relay", json={"marker": "m"})

    assert sorted(span.name for span in one.spans) == ["POST /{agent}/{name}", "dispatch back.message", "handle back.message"]
    assert len(other.spans) == 4


# --- an endpoint that is down -----------------------------------------------------------------------------------------


def test_an_endpoint_that_is_down_harms_no_call_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        app = gateway(environ_of(f"http://127.0.0.1:{nobody.getsockname()[1]}"))
        with caplog.at_level(logging.DEBUG), served(app) as address, httpx.Client(base_url=address) as client:
            answers = [client.post("/front/relay", json={"marker": "m"}).status_code for _ in range(300)]
            stopping = time.monotonic()
        stopped = time.monotonic() - stopping

    assert answers == [200] * 300
    assert stopped < 10
    assert len([record for record in caplog.records if record.name in LOGGERS and record.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize(
    ("answer", "lost"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>", 0),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", 1),
        (b"\x00\xff nonsense \r\n\r\n", 1),
        (b"", 1),
        (None, 1),
    ],
    ids=["a page", "500", "nonsense", "reset", "silence"],
)
def test_an_endpoint_that_answers_nonsense_holds_nobody_up(answer: bytes | None, lost: int) -> None:
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=misbehave, args=(listener, answer, done), daemon=True)
        thread.start()
        telemetry = configure(environ_of(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert telemetry is not None
        with telemetry.observer.handling(Message(recipient="agent")):
            pass
        began = time.monotonic()
        telemetry.shutdown()
        took = time.monotonic() - began
        done.set()

    assert took < 6
    assert telemetry.lost == lost or answer is None  # what is still under way is not known to be lost


def misbehave(listener: socket.socket, answer: bytes | None, done: threading.Event) -> None:
    """Answer every request like that; None: never."""
    open_ones: list[socket.socket] = []
    listener.settimeout(0.1)
    while not done.is_set():
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError:
            break
        connection.settimeout(2)
        connection.recv(65536)
        if answer is None:
            open_ones.append(connection)
            continue
        connection.sendall(answer)
        connection.close()
    for connection in open_ones:
        connection.close()


def test_spans_that_there_is_no_room_for_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=misbehave, args=(listener, None, done), daemon=True)
        thread.start()
        telemetry = configure(environ_of(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert telemetry is not None
        for _ in range(100):
            with telemetry.observer.handling(Message(recipient="agent")):
                pass
        lost = telemetry.lost
        telemetry.shutdown(0.1)
        done.set()

    assert 80 <= lost <= 92


def test_gateways_of_one_program_are_told_apart_by_all_that_they_send(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Outlets({}), Outlets({})
    found = [outlets.resource.attributes["service.instance.id"] for outlets in (one, one, other)]
    assert found[0] == found[1] != found[2]
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a, service.instance.id = the-one, service.name = shop")
    named = Outlets(os.environ).resource.attributes
    assert [named[f"service.{key}"] for key in ("instance.id", "name")] == ["the-one", "shop"]
    assert named["team"] == "a"


def test_log_records_are_not_printed_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert logs(Outlets({"OTEL_LOGS_EXPORTER": "console"}), ()) is None
    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_LOGS_EXPORTER names console: log records are sent over OTLP only; the lines of the log say the same."
    ]


def test_complaints_pass_once_a_minute() -> None:
    now = 0.0
    complaints = Complaints(lambda: now)
    record = logging.makeLogRecord({})

    passed = [complaints.filter(record), complaints.filter(record)]
    now = PERIOD - 0.1
    passed.append(complaints.filter(record))
    now = PERIOD
    passed.append(complaints.filter(record))

    assert passed == [True, False, False, True]


def test_what_callers_say_hides_no_complaint_about_an_endpoint() -> None:
    complaints = Complaints(lambda: 0.0)
    of_a_caller = logging.makeLogRecord({"name": "opentelemetry.trace.span"})

    assert [complaints.filter(of_a_caller), complaints.filter(of_a_caller), complaints.filter(logging.makeLogRecord({}))] == [
        True,
        False,
        True,
    ]


def test_the_loggers_are_left_as_they_were() -> None:
    before = [list(logging.getLogger(name).filters) for name in LOGGERS]
    with receiving() as receiver:
        send_one(environ_of(receiver.endpoint))

    assert [logging.getLogger(name).filters for name in LOGGERS] == before
