"""The audit trail arrives at an OTLP endpoint as log records, over HTTP and gRPC, and waits for one that is down."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.audit.chain import shown
from portico.errors import ConfigurationError
from portico.telemetry.audit_records import OtlpAuditSink
from portico.telemetry.outlets import Outlets
from tests.audit.entries import a_chain, an_entry
from tests.telemetry.receiver import receiving, receiving_grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.telemetry.receiver import Receiver

pytestmark = pytest.mark.anyio

CHAIN = a_chain(an_entry(1), an_entry(2, outcome="agent-crashed"))


@pytest.mark.parametrize(("listening", "protocol"), [(receiving, "http/protobuf"), (receiving_grpc, "grpc")])
async def test_entries_arrive_with_all_their_fields(
    listening: Callable[[], AbstractContextManager[Receiver]], protocol: str
) -> None:
    with listening() as receiver, anyio.fail_after(30):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        sink = OtlpAuditSink(Outlets(environ))
        await sink.open()
        await sink.write(CHAIN)
        await sink.close()
    assert [record.severity for record in receiver.logs] == ["INFO", "WARN"]
    first = receiver.logs[0]
    assert first.proto.event_name == "portico.audit"
    assert json.loads(first.body) == shown(CHAIN[0])
    assert first.trace == f"{1:032x}"
    assert first.proto.time_unix_nano == CHAIN[0].entry.at_us * 1000
    assert first.resource["service.name"] == "portico"
    expected = {f"portico.audit.{name}": value for name, value in shown(CHAIN[0]).items() if name != "details"}
    expected |= {
        "portico.audit.details.reason": "é\u2028\x7f",
        "portico.audit.details.count": 1,
        "portico.audit.details.sure": True,
    }
    assert first.attributes == expected


async def test_an_endpoint_that_is_down_is_told_so_that_the_entries_come_again() -> None:
    with receiving() as receiver:
        pass
    sink = OtlpAuditSink(Outlets({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"{receiver.endpoint}/v1/logs"}), timeout=0.5)
    with anyio.fail_after(30), pytest.raises(ConnectionError):
        await sink.write(CHAIN)
    await sink.close()


async def test_without_an_endpoint_it_cannot_be() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        OtlpAuditSink(Outlets({}))
