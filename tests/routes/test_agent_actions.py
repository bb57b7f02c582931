"""What an admin does to agents over HTTP: suspend, resume, restart, drain; and the tree that shows what became of it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.operations.decorators import operation
from portico.runs.tree_view import SLICE, TreeView
from tests.app.serving import is_problem, served
from tests.kernel.test_drain import suspended
from tests.mcp_bridge.helpers import tool_server
from tests.routes.agents import Crashing, Echo, Mirror, Slow

if TYPE_CHECKING:
    from pathlib import Path

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio
HELLO = {"text": "hello"}


class Kept(AgentProcess):
    """One per key."""

    async def handle(self, message: Message) -> Any:
        return message.payload


async def test_a_suspended_agent_refuses_with_the_reason_and_answers_again_when_it_is_resumed() -> None:
    async with served(Echo("echo")) as gateway:
        post = gateway.client.post
        for _ in range(2):
            view = (await post("/agents/echo/suspend", json={"reason": "a look at it"})).json()
            assert (view["status"], view["intake"], view["reason"]) == ("suspended", "suspended", "a look at it")
        assert "a look at it" in is_problem(await post("/agents/echo", json=HELLO), 409, "agent-suspended")["detail"]
        for _ in range(2):
            view = (await post("/agents/echo/resume")).json()
            assert (view["status"], view["intake"]) == ("running", "open")
        assert (await post("/agents/echo", json=HELLO)).status_code == 200


async def test_a_drained_agent_refuses_with_retry_after_handles_what_waits_and_stands_suspended() -> None:
    async with served(slow := Slow("slow", expose=True)) as gateway, asyncio.TaskGroup() as group:
        post = gateway.client.post
        first = group.create_task(post("/agents/slow/wait"))
        await slow.began.wait()
        view = (await post("/agents/slow/drain", json={"reason": "a new version"})).json()
        assert (view["status"], view["intake"], view["in_flight"], view["reason"]) == ("running", "draining", 1, "a new version")
        refused = await post("/agents/slow/wait")
        is_problem(refused, 503, "agent-draining")
        assert int(refused.headers["retry-after"]) >= 1
        is_problem(await post("/agents/slow/wait/cast"), 503, "agent-draining")
        slow.go_on.set()
        assert (await first).json() == "done"
        await suspended(gateway.runtime, "slow")
        is_problem(await post("/agents/slow/wait"), 409, "agent-suspended")


async def test_a_restart_answers_with_the_next_incarnation_and_keeps_what_waits() -> None:
    async with served(slow := Slow("slow", shutdown_timeout=5, expose=True), Echo("hidden", expose=False)) as gateway:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(gateway.client.post("/agents/slow/wait"))
            await slow.began.wait()
            restarting = group.create_task(gateway.client.post("/agents/slow/restart"))
            slow.go_on.set()
            assert (await asked).json() == "done"
            view = (await restarting).json()
        assert (view["status"], view["incarnation"], view["restarts"], view["restarts_per_minute"]) == ("running", 2, 1, 1)
        view = (await gateway.client.post("/agents/hidden/restart")).json()
        assert (view["incarnation"], view["exposed"]) == (2, False)


async def test_pools_keyed_agents_and_members_are_acted_on_by_their_names() -> None:
    crew, chats = pool(Kept, "crew", size=2), keyed(Kept, "chats", per_key="session")
    async with served(crew, chats) as gateway:
        post = gateway.client.post
        assert (await post("/agents/chats", json={"session": "secret"})).status_code == 200
        for name, payload in (("crew", {}), ("chats", {"session": "secret"})):
            assert (await post(f"/agents/{name}/suspend")).json()["intake"] == "suspended"
            is_problem(await post(f"/agents/{name}", json=payload), 409, "agent-suspended")
            assert (await post(f"/agents/{name}/resume")).json()["intake"] == "open"
            assert (await post(f"/agents/{name}/restart")).status_code == 200
            assert (await post(f"/agents/{name}", json=payload)).status_code == 200
            assert (await post(f"/agents/{name}/drain")).json()["intake"] == "suspended"
        view = (await post("/agents/crew.1/restart")).json()
        assert (view["name"], view["incarnation"]) == ("crew.1", 3)
        is_problem(await post("/agents/chats%2Fsecret/suspend"), 404, "agent-not-found")


@pytest.mark.parametrize("action", ["suspend", "resume", "restart", "drain"])
async def test_what_is_not_there_or_takes_no_messages_is_said_clearly(action: str) -> None:
    async with served(Echo("echo"), DynamicSupervisor("crowd")) as gateway:
        problem = is_problem(await gateway.client.post(f"/agents/eco/{action}"), 404, "agent-not-found")
        assert "echo" in problem["detail"]
        problem = is_problem(await gateway.client.post(f"/agents/crowd/{action}"), 409, "wrong-state")
        assert "is a supervisor" in problem["detail"]
        response = await gateway.client.get(f"/agents/echo/{action}")
        is_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "OPTIONS, POST"


async def test_one_that_has_ended_for_good_can_only_be_restarted() -> None:
    async with served(Crashing("brief", restart="temporary")) as gateway:
        await gateway.client.post("/agents/brief/once")
        is_problem(await gateway.client.post("/agents/brief/once"), 503, "agent-failed")
        is_problem(await gateway.client.post("/agents/brief/suspend"), 409, "wrong-state")
        view = (await gateway.client.post("/agents/brief/restart")).json()
        assert (view["status"], view["intake"]) == ("running", "open")
        is_problem(await gateway.client.post("/agents/brief/once"), 502, "agent-crashed")


@pytest.mark.parametrize("body", ["[]", '{"reason": 7}', '{"why": ""}', '{"reason": "%s"}' % ("x" * 501), "{"])
async def test_a_body_that_is_no_reason_changes_nothing(body: str) -> None:
    async with served(Echo("echo")) as gateway:
        headers = {"content-type": "application/json"}
        assert (await gateway.client.post("/agents/echo/drain", content=body, headers=headers)).status_code in {400, 422}
        assert (await gateway.client.get("/agents/echo")).json()["intake"] == "open"


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_an_mcp_server_is_connected_anew_by_a_restart_under_its_whole_name() -> None:
    servers, tools = build_upstreams([tool_server("files")])
    async with served(servers, patience=80) as gateway:
        with anyio.fail_after(70):
            await tools.connections["files"].attempted()
            before = (await gateway.client.get("/agents/mcp:%2F%2Ffiles")).json()
            after = (await gateway.client.post("/agents/mcp:%2F%2Ffiles/restart")).json()
            assert (before["kind"], before["incarnation"], after["incarnation"]) == ("mcp", 1, 2)
            await tools.connections["files"].attempted()
            assert (await gateway.client.get("/agents/mcp%3A%2F%2Ffiles")).json()["ready"] is True


async def test_an_agent_with_a_slash_in_its_name_is_seen_and_asked_where_the_slash_is_encoded() -> None:
    async with served(Echo("team/echo"), Echo("team")) as gateway:
        get, post = gateway.client.get, gateway.client.post
        for address in ("/agents/team%2Fecho", "/agents/team%2fecho", "/agents/team%2Fecho/"):
            assert (await get(address)).json()["name"] == "team/echo"
            assert (await post(address, json=HELLO)).status_code == 200
        assert (await post("/agents/team/echo", json=HELLO)).status_code == 200
        assert (await post("/agents/team%2Fecho/cast", json=HELLO)).status_code == 202
        assert (await post("/agents/team%2Fecho/restart")).json()["name"] == "team/echo"
        assert (await post("/agents/team%2Fnobody", json=HELLO)).status_code == 404
        assert "'team/nobody'" in is_problem(await get("/agents/team%2Fnobody"), 404, "agent-not-found")["detail"]
        assert (await get("/agents/team")).json()["name"] == "team"
        for address in ("/agents/team/echo", "/agents/team%2Fecho/nothing"):
            assert (await get(address)).status_code in {404, 405}
        assert (await post("/agents/team%2Fcast", json=HELLO)).status_code in {404, 405}


async def test_only_an_admin_acts_and_sees_crashes_and_what_is_not_exposed(tmp_path: Path) -> None:
    file, keys = KeyFile(tmp_path / "keys.json"), dict[str, str]()
    with file.editing() as records:
        for name, scopes in (("admin", {"admin"}), ("other", {"read"})):
            keys[name], record = new_key(Principal(name, frozenset(scopes)))
            records.append(record)
    agents = Crashing("crashing", expose=True), Echo("hidden", expose=False)
    async with served(*agents, keys_file=str(file.path)) as gateway:
        admin, other = ({"authorization": f"Bearer {keys[name]}"} for name in ("admin", "other"))
        client = gateway.client
        await client.post("/agents/crashing/once", headers=other)
        for action in ("suspend", "resume", "restart", "drain"):
            is_problem(await client.post(f"/agents/crashing/{action}", headers=other), 403, "insufficient-scope")
            is_problem(await client.post(f"/agents/nobody/{action}", headers=other), 403, "insufficient-scope")
            is_problem(await client.post(f"/agents/crashing/{action}"), 401, "unauthenticated")
        seen = await client.get("/agents", headers=other)
        assert "last_crash" not in seen.text
        assert "secret of the house" not in seen.text
        assert "last_crash" not in (await client.get("/agents/crashing", headers=other)).json()
        is_problem(await client.get("/agents/hidden", headers=other), 404, "agent-not-found")
        tree = (await client.get("/agents", headers=admin)).json()
        crash = tree["children"][0]["last_crash"]
        assert (crash["type"], crash["message"], crash["incarnation"]) == ("RuntimeError", "the secret of the house", 1)
        assert "traceback" not in crash
        whole = (await client.get("/agents/crashing", headers=admin)).json()["last_crash"]
        assert "tests/routes/agents.py" in whole["traceback"]
        assert (await client.get("/agents/hidden", headers=admin)).json()["exposed"] is False
        assert (await client.get("/agents/root", headers=admin)).json()["kind"] == "sup"


class Skilled(AgentProcess):
    capabilities = ["sums", "words"]  # noqa: RUF012  # as users write it
    capability_metadata = {"sums": {"precision": 2}}  # noqa: RUF012  # as users write it

    async def handle(self, message: Message) -> Any:
        return message.payload


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1:1@evil.example"]
)
async def test_a_page_from_elsewhere_is_no_admin_because_its_reader_is_on_this_machine(origin: str) -> None:
    async with served(Echo("echo"), cors_origins=["*"]) as gateway:
        page = {"origin": origin}
        is_problem(await gateway.client.post("/agents/echo/suspend", headers=page), 404, "not-found")
        is_problem(await gateway.client.get("/events", headers=page), 404, "not-found")
        is_problem(await gateway.client.get("/agents/root", headers=page), 404, "agent-not-found")
        assert (await gateway.client.post("/agents/echo", json=HELLO, headers=page)).status_code == 200
        for own in (f"http://127.0.0.1:{gateway.port}", "http://localhost:3000"):
            assert (await gateway.client.post("/agents/echo/suspend", headers={"origin": own})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.example:8080", "192.168.1.7"])
async def test_who_asks_this_machine_by_another_name_is_no_admin(host: str) -> None:
    async with served(Echo("echo"), host="0.0.0.0", insecure=True) as gateway:
        named = {"host": host}
        is_problem(await gateway.client.post("/agents/echo/suspend", headers=named), 404, "not-found")
        is_problem(await gateway.client.get("/events", headers=named), 404, "not-found")
        assert (await gateway.client.post("/agents/echo", json=HELLO, headers=named)).status_code == 200
        for own in ("localhost", f"127.0.0.1:{gateway.port}", "[::1]:80", "127.0.0.2"):
            assert (await gateway.client.post("/agents/echo/suspend", headers={"host": own})).status_code == 200


async def test_the_tree_shows_intensity_capabilities_and_what_was_attached() -> None:
    inner = Supervisor("inner", [Skilled("skilled"), Crashing("crashing")], max_restarts=7, restart_window=30, backoff_base=0)
    async with served(inner, Mirror("mirror")) as gateway:
        await gateway.runtime.attach(Supervisor("later", [Echo("late")]))
        async with gateway.runtime.subscribe("process.restarted") as events:
            await gateway.runtime.send("crashing", {}, "once")
            await anext(events)
        tree = (response := await gateway.client.get("/agents")).json()
        assert '"in_flight":0' in response.text
        assert '"in_flight":false' not in response.text
        node = tree["children"][0]
        assert (node["max_restarts"], node["restart_window"], node["restarts_in_window"]) == (7, 30, 1)
        skilled, crashing = node["children"]
        assert (skilled["capabilities"], skilled["capability_metadata"]) == (["sums", "words"], {"sums": {"precision": 2}})
        assert (crashing["restarts_per_minute"], crashing["last_crash"]["attempt"]) == (1, 1)
        assert tree["beside"][0]["children"][0]["name"] == "late"


async def test_a_large_tree_is_built_without_holding_up_the_loop() -> None:
    crowd = [Supervisor(f"row-{row}", [Mirror(f"mirror-{row}-{place}", expose=False) for place in range(50)]) for row in range(40)]
    async with served(*crowd, patience=50) as gateway:
        runtime, catalogue = gateway.gateway.face.dispatcher.runtime, gateway.gateway.face.dispatcher.catalogue
        for look in (TreeView(runtime, catalogue).text(), TreeView(runtime, catalogue).text_of(runtime.supervisor)):
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async with asyncio.TaskGroup() as group:
                counting = group.create_task(count())
                rows = json.loads(await look)["children"]
                counting.cancel()
            assert sum(len(row["children"]) for row in rows) == 2000
            assert turns >= 2000 / SLICE
        for path in ("/agents", "/agents/root"):
            assert len((await gateway.client.get(path)).json()["children"]) == 40


class Asker(AgentProcess):
    @operation
    async def ask_somebody(self, ctx: Context) -> Any:
        return await ctx.wait_input("May I?")


async def test_an_admin_sees_follows_answers_and_cancels_everybodys_runs_and_others_do_not(tmp_path: Path) -> None:
    file, keys = KeyFile(tmp_path / "keys.json"), dict[str, dict[str, str]]()
    with file.editing() as records:
        for name, scopes in (("admin", {"admin"}), ("alice", {"read"}), ("bob", {"read"})):
            key, record = new_key(Principal(name, frozenset(scopes)))
            keys[name] = {"authorization": f"Bearer {key}"}
            records.append(record)
    async with served(Asker("asker"), keys_file=str(file.path)) as gateway:
        get, post = gateway.client.get, gateway.client.post
        runs = [(await post("/runs", json={"agent": "asker"}, headers=keys["alice"])).json()["run_id"] for _ in range(3)]
        listed = (await get("/runs", params={"everyone": "true"}, headers=keys["admin"])).json()["runs"]
        assert {(run["run_id"], run["principal"]) for run in listed} == {(run, "alice") for run in runs}
        page = (await get("/runs", params={"everyone": "true", "limit": 2}, headers=keys["admin"])).json()
        rest = await get("/runs", params={"everyone": "true", "before": page["next"]}, headers=keys["admin"])
        assert [run["run_id"] for run in rest.json()["runs"]] == [listed[-1]["run_id"]]
        assert (await get("/runs", headers=keys["admin"])).json()["runs"] == []
        for asked in ({"principal": "alice"}, {"principal": "alice", "everyone": "true"}, {"everyone": "true", "id": runs[1]}):
            some = (await get("/runs", params=asked, headers=keys["admin"])).json()["runs"]
            assert [run["run_id"] for run in some] == ([runs[1]] if "id" in asked else runs[::-1])
        page = (await get("/runs", params={"principal": "alice", "limit": 2}, headers=keys["admin"])).json()
        rest = await get("/runs", params={"principal": "alice", "before": page["next"]}, headers=keys["admin"])
        assert [run["run_id"] for run in rest.json()["runs"]] == [runs[0]]
        assert (await get("/runs", params={"principal": "bob", "everyone": "true"}, headers=keys["admin"])).json()["runs"] == []
        assert len((await get("/runs", params={"principal": "alice"}, headers=keys["alice"])).json()["runs"]) == 3
        assert (await get("/runs", params={"id": runs[0]}, headers=keys["bob"])).json()["runs"] == []
        for asked in ({"everyone": "true"}, {"principal": "alice"}):
            is_problem(await get("/runs", params=asked, headers=keys["bob"]), 403, "insufficient-scope")
        assert "principal" not in (await get("/runs", headers=keys["alice"])).json()["runs"][0]
        for path in (f"/runs/{runs[0]}", f"/runs/{runs[0]}/events"):
            is_problem(await get(path, headers=keys["bob"]), 404, "run-not-found")
        is_problem(await post(f"/runs/{runs[0]}/cancel", headers=keys["bob"]), 404, "run-not-found")
        assert (await get(f"/runs/{runs[0]}", headers=keys["admin"])).json()["principal"] == "alice"
        assert (await post(f"/runs/{runs[0]}/cancel", headers=keys["admin"])).json()["status"] == "cancelled"
        with anyio.fail_after(10):
            async with gateway.client.stream("GET", f"/runs/{runs[1]}/events", headers=keys["admin"]) as stream:
                async for line in stream.aiter_lines():
                    if line == "event: run.waiting":
                        await post(f"/runs/{runs[1]}/input", json="yes", headers=keys["admin"])
            assert (await get(f"/runs/{runs[1]}", headers=keys["alice"])).json()["output"] == "yes"
