"""The tasks extension on the wire: what becomes a task, and what its client can do with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY

from portico.mcp_bridge.serving.options import ServingOptions
from tests.mcp_bridge.helpers import Greeter, gateway, until
from tests.mcp_bridge.serving.long_agents import Worker
from tests.mcp_bridge.serving.wire import TASKS, WireError, accepted, wire

if TYPE_CHECKING:
    from tests.mcp_bridge.serving.wire import Wire

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SOON = ServingOptions(task_after=0.05)


async def refusal(request: Any) -> WireError:
    """The error that a request is answered with."""
    with pytest.raises(WireError) as caught:
        await request
    return caught.value


async def test_a_server_says_that_it_has_tasks() -> None:
    async with gateway(Greeter("greeter")) as (url, _), wire(url) as client:
        discovered = await client.request("server/discover", {})
    assert discovered["capabilities"]["extensions"] == {TASKS: {}}
    assert "tasks" not in discovered["capabilities"]


async def test_an_operation_that_is_a_task_is_one_at_once_and_its_result_is_inlined_when_it_ends() -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), wire(url) as client:
        created = await client.call("worker-job")
        assert created["resultType"] == "task"
        assert not {"result", "error", "inputRequests", "requestState", "task"} & created.keys()
        await worker.began.wait()
        working = await client.get(created["taskId"])
        assert working["status"] == created["status"] == "working"
        assert working["statusMessage"] == "has begun"
        assert working["resultType"] == "complete"
        assert isinstance(working["pollIntervalMs"], int)
        assert working["ttlMs"] is None
        worker.goes_on.set()
        done = await client.until(created["taskId"], "completed")
    assert done["result"]["structuredContent"] == {"text": "worked"}
    assert done["result"]["content"][0]["type"] == "text"
    assert done["createdAt"] == created["createdAt"] <= done["lastUpdatedAt"]


async def test_any_call_that_takes_long_becomes_a_task_and_a_short_one_does_not() -> None:
    worker = Worker()
    async with gateway(worker, Greeter("greeter"), options=SOON) as (url, _), wire(url) as client:
        short = await client.call("greeter", name="Ada")
        created = await client.call("worker-typed")
        worker.goes_on.set()
        done = await client.until(created["taskId"], "completed")
    assert short["resultType"] == "complete"
    assert "taskId" not in short
    assert created["resultType"] == "task"
    assert done["result"]["structuredContent"] == {"text": "worked"}
    assert worker.calls == 1


async def test_a_task_goes_on_when_its_client_closes_the_connection() -> None:
    worker = Worker()
    async with gateway(worker, options=SOON) as (url, _):
        async with wire(url) as client:
            task = (await client.call("worker-typed"))["taskId"]
        worker.goes_on.set()
        async with wire(url) as client:
            await client.until(task, "completed")
    assert not worker.cancelled.is_set()


async def test_an_operation_that_is_never_a_task_is_answered_as_for_clients_without_tasks() -> None:
    worker = Worker()
    options = ServingOptions(client_limit=0.05, task_after=0.01)
    async with gateway(worker, options=options) as (url, _), wire(url) as client:
        told = await client.call("worker-never_a_task")
        worker.goes_on.set()
    assert told["resultType"] == "complete"
    assert told["structuredContent"]["status"] == "running"


async def test_what_is_only_a_task_is_refused_to_a_client_that_knows_none() -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), wire(url, {}) as client:
        error = await refusal(client.call("worker-only_a_task"))
        async with Client(url, mode="legacy") as old:
            with pytest.raises(MCPError) as caught:
                await old.call_tool("worker-only_a_task", {})
    assert (error.status, error.code) == (400, MISSING_REQUIRED_CLIENT_CAPABILITY)
    assert error.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    assert caught.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert worker.calls == 0


async def test_a_tool_that_answers_an_error_is_completed_and_a_crash_is_failed() -> None:
    worker = Worker()
    async with gateway(worker, options=SOON) as (url, _), wire(url) as client:
        failing = await client.call("worker-fails")
        worker.goes_on.set()
        completed = await client.until(failing["taskId"], "completed", "failed")
        crashed = await client.until((await client.call("worker-crashes"))["taskId"], "completed", "failed")
    assert completed["status"] == "completed"
    assert completed["result"]["isError"] is True
    assert completed["result"]["_meta"]["portico/error"]["slug"] == "no-luck"
    assert crashed["status"] == "failed"
    assert crashed["error"]["data"]["slug"] == "agent-crashed"
    assert "secret" not in str(crashed)
    assert "result" not in crashed


async def test_a_cancelled_task_is_cancelled_and_cancelling_it_again_changes_nothing() -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), wire(url) as client:
        task = (await client.call("worker-job"))["taskId"]
        await worker.began.wait()
        acknowledged = await client.request("tasks/cancel", {"taskId": task})
        cancelled = await client.until(task, "cancelled", "completed", "failed")
        again = await client.request("tasks/cancel", {"taskId": task})
        with anyio.fail_after(20):
            await worker.cancelled.wait()
    assert set(acknowledged) == set(again) == {"resultType", "_meta"}
    assert cancelled["status"] == "cancelled"
    assert not {"result", "error"} & cancelled.keys()


async def answered(client: Wire, task: str, **responses: Any) -> dict[str, Any]:
    """A task after some answers."""
    assert (await client.update(task, **responses))["resultType"] == "complete"
    return await client.get(task)


async def test_a_task_that_waits_for_input_says_what_is_asked_and_goes_on_with_the_answer() -> None:
    async with gateway(Worker()) as (url, _), wire(url) as client:
        task = (await client.call("worker-confirm", filename="b.txt"))["taskId"]
        waiting = await client.until(task, "input_required")
        ((name, request),) = waiting["inputRequests"].items()
        still = await answered(client, task, unknown={"ignored": True})
        await client.update(task, **{name: accepted(confirm=True)})
        done = await client.until(task, "completed")
    assert request["method"] == "elicitation/create"
    assert request["params"]["message"] == waiting["statusMessage"] == "Delete b.txt?"
    assert still["status"] == "input_required"
    assert done["result"]["content"][0]["text"] == "deleted b.txt"


async def test_several_questions_are_answered_one_at_a_time() -> None:
    async with gateway(Worker()) as (url, _), wire(url) as client:
        task = (await client.call("worker-two"))["taskId"]
        waiting = await client.until(task, "input_required")
        half = await answered(client, task, first=accepted(name="Ada"))
        await client.update(task, second=accepted(name="Grace"))
        done = await client.until(task, "completed")
    assert set(waiting["inputRequests"]) == {"first", "second"}
    assert half["status"] == "input_required"
    assert set(half["inputRequests"]) == {"second"}
    assert done["result"]["content"][0]["text"] == "Ada and Grace"


async def test_an_answer_that_is_none_is_refused_and_the_question_stays() -> None:
    async with gateway(Worker()) as (url, _), wire(url) as client:
        task = (await client.call("worker-confirm"))["taskId"]
        ((name, _),) = (await client.until(task, "input_required"))["inputRequests"].items()
        error = await refusal(client.update(task, **{name: accepted(confirm="perhaps")}))
        still = await client.get(task)
        await client.update(task, **{name: {"action": "decline"}})
        declined = await client.until(task, "completed")
    assert error.code == INVALID_PARAMS
    assert error.data["slug"] == "contract-violated"
    assert still["status"] == "input_required"
    assert declined["result"]["_meta"]["portico/error"]["slug"] == "input-declined"


async def test_a_client_that_cannot_be_asked_sees_that_the_task_waits() -> None:
    worker = Worker()
    async with gateway(worker) as (url, endpoint), wire(url, {"extensions": {TASKS: {}}}) as client:
        task = (await client.call("worker-confirm"))["taskId"]
        run = await endpoint.served.dispatcher.book.find(task, None)
        await until(lambda: run.waiting is not None)
        waiting = await client.get(task)
    assert waiting["status"] == "working"
    assert waiting["statusMessage"] == "Delete a.txt?"


async def test_a_call_that_asks_first_becomes_a_task_in_a_later_round() -> None:
    worker = Worker()
    async with gateway(worker, options=SOON) as (url, _), wire(url) as client:
        first = await client.call("worker-asks_then_works")
        ((name, _),) = first["inputRequests"].items()
        again: dict[str, Any] = {"name": "worker-asks_then_works", "arguments": {}, "requestState": first["requestState"]}
        created = await client.request("tools/call", {**again, "inputResponses": {name: accepted(name="Ada")}})
        worker.goes_on.set()
        done = await client.until(created["taskId"], "completed")
    assert first["resultType"] == "input_required"
    assert "taskId" not in first
    assert created["resultType"] == "task"
    assert not {"requestState", "inputRequests"} & created.keys()
    assert done["result"]["content"][0]["text"] == "worked for Ada"


async def test_mcp_name_must_say_the_task() -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), wire(url) as client:
        task = (await client.call("worker-job"))["taskId"]
        errors = [
            await refusal(client.request(method, {"taskId": task, "inputResponses": {}}, name=name))
            for method in ("tasks/get", "tasks/cancel", "tasks/update")
            for name in ("another", "")
        ]
        working = await client.get(task)
    assert {(error.status, error.code) for error in errors} == {(400, HEADER_MISMATCH)}
    assert working["status"] == "working"


async def test_a_task_belongs_to_whoever_called() -> None:
    worker = Worker()
    async with gateway(worker) as (url, _), wire(url, headers={"x-who": "ada"}) as ada, wire(url, headers={"x-who": "eve"}) as eve:
        task = (await ada.call("worker-job"))["taskId"]
        errors = [
            await refusal(eve.get(task)),
            await refusal(eve.request("tasks/cancel", {"taskId": task})),
            await refusal(eve.update(task, first=accepted(name="Eve"))),
            await refusal(eve.get("no-such-task")),
        ]
        assert (await ada.get(task))["status"] == "working"
    assert {error.code for error in errors} == {INVALID_PARAMS}
    assert not worker.cancelled.is_set() or worker.calls == 1


async def test_the_methods_need_the_capability_and_the_revision() -> None:
    async with gateway(Greeter("greeter")) as (url, _), wire(url, {}) as client:
        errors = [
            await refusal(client.request(method, {"taskId": "x", "inputResponses": {}}))
            for method in ("tasks/get", "tasks/update", "tasks/cancel")
        ]
        gone = [await refusal(client.request(method, {"taskId": "x"})) for method in ("tasks/result", "tasks/list")]
    assert {error.code for error in errors} == {MISSING_REQUIRED_CLIENT_CAPABILITY}
    assert {error.code for error in gone} == {METHOD_NOT_FOUND}


async def test_a_task_is_a_run_and_its_id_the_runs() -> None:
    worker = Worker()
    async with gateway(worker, options=SOON) as (url, endpoint), wire(url) as client:
        task = (await client.call("worker-typed"))["taskId"]
        book = endpoint.served.dispatcher.book
        run = await book.find(task, None)
        assert run.stored
        assert run.metadata == {"portico/tool": "worker-typed"}
        worker.goes_on.set()
        await asyncio.wait_for(run.wait(), 20)
        assert (await book.store.run(task)) is not None
