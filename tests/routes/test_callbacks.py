"""Callbacks through HTTP: a run's end is told, signed, to whom asked for it, and what cannot be told is refused at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from portico.errors import AgentError
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation
from tests.app.serving import is_problem, served
from tests.webhooks.receivers import SECRET, answered, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Baker(AgentProcess):
    """Bakes, or does not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.oven = asyncio.Event()

    @operation
    async def bake(self, cake: str = "tart") -> str:
        return f"{cake} is baked"

    @operation
    async def burn(self) -> str:
        raise AgentError("burnt", "It is black.")

    @operation
    async def wait(self) -> str:
        await self.oven.wait()
        return "at last"


@asynccontextmanager
async def bakery(**settings: Any) -> AsyncGenerator[Served]:
    said: dict[str, Any] = {"callback_secret": SECRET, "callback_allowed_hosts": ("127.0.0.1",), **settings}
    async with served(Baker("baker"), **said) as gateway:
        yield gateway


async def started(gateway: Served, url: str, doing: str = "bake", **more: Any) -> str:
    response = await gateway.client.post("/runs", json={"agent": "baker", "operation": doing, "callback_url": url, **more})
    assert response.status_code == 202, response.text
    return response.json()["run_id"]


async def callback_of(gateway: Served, run_id: str, status: str, attempts: int = 0) -> dict[str, Any]:
    """The callback of a run, once it is there: nothing tells when."""
    while True:
        callback = (await gateway.client.get(f"/runs/{run_id}", params={"wait": 5})).json()["callback"]
        if callback["status"] == status and callback["attempts"] >= attempts:
            return callback
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("doing", "kind", "error"),
    [("bake", "run.succeeded", None), ("burn", "run.failed", {"slug": "burnt", "detail": "It is black."})],
)
async def test_the_end_of_a_run_is_told_signed_as_its_record_has_it(doing: str, kind: str, error: Any) -> None:
    async with bakery() as gateway, receiving() as receiver:
        run_id = await started(gateway, receiver.url("/hook?for=me"), doing)
        told = await receiver.has(1)
        told.check()
        callback = await callback_of(gateway, run_id, "delivered")
        record = (await gateway.client.get(f"/runs/{run_id}")).json()

        assert told.target == "/hook?for=me"
        assert told.headers["webhook-id"] == f"msg_{run_id}"
        assert told.headers["host"] == f"127.0.0.1:{receiver.port}"
        assert told.headers["content-type"] == "application/json"
        message = told.json()
        assert (message["type"], message["timestamp"]) == (kind, record["finished_at"])
        assert message["data"].pop("callback")["status"] == "pending"
        of_readers = ("callback", "summary", "principal")  # the last two are told to who reads, and to an admin
        assert message["data"] == {name: value for name, value in record.items() if name not in of_readers}
        assert record["error"] == error
        assert callback["delivered_at"] is not None
        assert {**callback, "delivered_at": None} == {
            "url": receiver.url("/hook?for=me"),
            "status": "delivered",
            "attempts": 1,
            "next_at": None,
            "last_status": 204,
            "last_error": None,
            "delivered_at": None,
        }


async def test_a_cancelled_run_is_told_too_and_nothing_before_its_end() -> None:
    async with bakery() as gateway, receiving() as receiver:
        run_id = await started(gateway, receiver.url(), "wait")
        before = (await gateway.client.get(f"/runs/{run_id}")).json()["callback"]
        assert (before["status"], before["attempts"], before["next_at"]) == ("pending", 0, None)
        assert receiver.connections == 0
        await gateway.client.post(f"/runs/{run_id}/cancel")
        told = (await receiver.has(1)).json()
        assert (told["type"], told["data"]["status"]) == ("run.cancelled", "cancelled")


async def test_what_was_not_taken_is_shown_with_the_time_of_the_next_attempt() -> None:
    async with bakery() as gateway, receiving(answered(500, body=b"a secret of the receiver's")) as receiver:
        run_id = await started(gateway, receiver.url())
        await receiver.has(1)
        callback = await callback_of(gateway, run_id, "pending", attempts=1)
        assert (callback["attempts"], callback["last_status"], callback["last_error"]) == (1, 500, "It answered 500.")
        assert callback["next_at"] is not None


async def test_a_callback_that_was_given_up_is_sent_again_on_demand() -> None:
    async with bakery() as gateway, receiving(answered(410)) as receiver:
        run_id = await started(gateway, receiver.url())
        failed = await callback_of(gateway, run_id, "failed")
        assert (failed["attempts"], failed["next_at"], failed["last_status"]) == (1, None, 410)
        again = await gateway.client.post(f"/runs/{run_id}/callback/redeliver")
        assert (again.status_code, again.json()) == (202, {"run_id": run_id, "status": "succeeded"})
        first, second = (await receiver.has(2), receiver.received[0])
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert (await callback_of(gateway, run_id, "delivered"))["attempts"] == 1


async def test_what_cannot_be_sent_again_is_refused() -> None:
    async with bakery() as gateway, receiving() as receiver:
        client = gateway.client
        without = (await client.post("/runs", json={"agent": "baker", "operation": "bake"})).json()["run_id"]
        running = await started(gateway, receiver.url(), "wait")
        for run_id, why in ((without, "has no callback"), (running, "has not ended")):
            problem = is_problem(await client.post(f"/runs/{run_id}/callback/redeliver"), 409, "not-redeliverable")
            assert why in problem["detail"]
        is_problem(await client.post("/runs/nonsense/callback/redeliver"), 404, "run-not-found")
        await client.post(f"/runs/{running}/cancel")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://example.com/",
        "http://",
        "https://user:pw@example.com/",
        "https://example.com/#there",
        "https://example.com/a b",
        "https://exämple.com/ü",
        "https://example.com:22/",
        "https://example.com:99999/",
        "https://localhost/",
        "https://a.LOCALHOST./",
        "https://10.0.0.1/",
        "http://[::1]:8080/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0x7f.1/",
        "http://2130706433/",
        f"https://example.com/{'x' * 2048}",
        "",
    ],
)
async def test_a_callback_that_may_not_be_sent_is_refused_at_once(url: str) -> None:
    async with bakery() as gateway:
        response = await gateway.client.post("/runs", json={"agent": "baker", "operation": "bake", "callback_url": url})
        problem = is_problem(response, 422, "contract-violated")
        assert [fault["path"] for fault in problem["errors"]] == ["/callback_url"]
        assert (await gateway.client.get("/runs")).json()["runs"] == []


async def test_a_gateway_without_a_secret_refuses_callbacks_and_names_the_setting() -> None:
    async with bakery(callback_secret=None) as gateway:
        response = await gateway.client.post(
            "/runs", json={"agent": "baker", "operation": "bake", "callback_url": "https://example.com/"}
        )
        assert "PORTICO_CALLBACK_SECRET" in is_problem(response, 422, "contract-violated")["detail"]


async def test_another_callback_under_the_same_key_is_another_request() -> None:
    async with bakery() as gateway, receiving() as receiver:
        body = {"agent": "baker", "operation": "bake", "callback_url": receiver.url()}
        first, same, other, none = [
            await gateway.client.post("/runs", json={**body, **change}, headers={"idempotency-key": "one"})
            for change in ({}, {}, {"callback_url": receiver.url("/other")}, {"callback_url": None})
        ]
        assert first.json()["run_id"] == same.json()["run_id"]
        is_problem(other, 422, "key-reused")
        is_problem(none, 422, "key-reused")
        await receiver.has(1)


async def test_a_send_and_an_ask_that_is_not_waited_for_say_in_a_header_where_their_end_is_told() -> None:
    async with bakery() as gateway, receiving() as receiver:
        headers = {"callback-url": receiver.url()}
        send = await gateway.client.post("/agents/baker/bake/cast", json={}, headers=headers)
        ask = await gateway.client.post("/agents/baker/bake", json={}, headers={**headers, "prefer": "respond-async"})
        assert (send.status_code, ask.status_code) == (202, 202)
        await receiver.has(2)
        ids = {received.headers["webhook-id"] for received in receiver.received}
        assert ids == {f"msg_{response.json()['run_id']}" for response in (send, ask)}
        for url in (b"http://10.0.0.1/", b"\xff"):
            wrong = [(b"callback-url", url), (b"prefer", b"respond-async")]
            refused = await gateway.client.post("/agents/baker/bake", json={}, headers=wrong)
            assert "Callback-Url: " in is_problem(refused, 400, "malformed-header")["detail"]


async def test_a_receiver_that_does_not_answer_holds_up_no_other_host_and_no_stop() -> None:
    over = asyncio.Event()

    async def late() -> bytes:
        await over.wait()
        return b""

    async with receiving(*[late] * 20) as silent, receiving() as quick:
        async with bakery(callback_allowed_hosts=("127.0.0.1", f"localhost:{quick.port}")) as gateway:
            for _ in range(20):
                await started(gateway, silent.url())
            await silent.has(4)
            await started(gateway, quick.url(host="localhost"))
            (await quick.has(1)).check()
        assert len(silent.received) == 4
        over.set()


async def test_the_document_says_what_a_receiver_gets() -> None:
    async with bakery() as gateway:
        document = (await gateway.client.get("/openapi.json")).json()
        told = document["paths"]["/runs"]["post"]["callbacks"]["runEnded"]["{$request.body#/callback_url}"]["post"]
        assert {parameter["name"] for parameter in told["parameters"]} == {"webhook-id", "webhook-timestamp", "webhook-signature"}
        assert told["requestBody"]["content"]["application/json"]["schema"]["required"] == ["type", "timestamp", "data"]
        assert set(told["responses"]) == {"2XX", "410", "default"}
