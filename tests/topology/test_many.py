"""Several processes behind one name, and several messages at once, as a topology says it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

from portico.errors import KeyMissing, MailboxFull, TooManyKeys, TopologyError
from portico.kernel.delivery import Delivery
from portico.kernel.keyed import Keyed
from portico.kernel.messages import DEFAULT_TYPE, Message, Origin
from portico.kernel.pool import Pool
from portico.kernel.process import AgentProcess
from portico.testing import ManualClock, settle
from portico.topology.runtime import Runtime
from portico.topology.topology import load, load_text

pytestmark = pytest.mark.anyio


class Worker(AgentProcess):
    """Waits at the gate that all its instances share, and tells who it is."""

    gate = asyncio.Event()
    inside: list[str] = []  # noqa: RUF012  # shared on purpose

    def __init__(self, name: str, greeting: str = "hi") -> None:
        super().__init__(name)
        self.greeting = greeting

    async def handle(self, message: Message) -> Any:
        if message.payload.get("boom") and message.attempt == 0:
            raise RuntimeError("the first delivery")
        if message.payload.get("wait"):
            self.inside.append(self.name)
            await self.gate.wait()
        return {
            "name": self.name,
            "greeting": self.greeting,
            "config": dict(self.config),
            "description": self.description,
            "shutdown_timeout": self.shutdown_timeout,
        }


class Handing(Worker):
    """Takes the options itself."""

    def __init__(self, name: str, greeting: str = "hi", **options: Any) -> None:
        AgentProcess.__init__(self, name, **options)
        self.greeting = greeting


CLASSES: dict[str, type[AgentProcess]] = {"worker": Worker, "handing": Handing}


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Each test has a gate of its own."""
    Worker.gate, Worker.inside = asyncio.Event(), []


def running(clock: ManualClock | None = None, **node: Any) -> Runtime:
    tree = {"supervision": {"max_restarts": 5, "backoff_base": 0, "children": [{"agent": {"name": "w", "type": "worker", **node}}]}}
    return Runtime.from_config(tree, CLASSES, clock=clock or ManualClock())


async def say(runtime: Runtime, key: str, principal: str | None, **said: Any) -> dict[str, Any]:
    """An ask that a caller outside has caused."""
    message = Message(DEFAULT_TYPE, {"s": key, **said}, recipient="w", origin=Origin("call", principal))
    delivery = Delivery(message, asyncio.get_running_loop().create_future())
    runtime.router.deliver(delivery)
    assert delivery.future is not None
    return (await delivery.future).payload


async def at_once(runtime: Runtime, *payloads: dict[str, Any]) -> list[str]:
    """Ask all of this, and tell who had something in hand at once."""
    async with asyncio.TaskGroup() as callers:
        for payload in payloads:
            callers.create_task(runtime.ask("w", {"wait": True, **payload}))
        await settle()
        found = sorted(Worker.inside)
        Worker.gate.set()
    return found


# --- what it does -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["worker", "handing"])
async def test_concurrency_lets_an_agent_have_so_many_in_hand(kind: str) -> None:
    with anyio.fail_after(5):
        async with running(type=kind, concurrency=2) as runtime:
            assert await at_once(runtime, {}, {}, {}) == ["w", "w"]


@pytest.mark.parametrize("kind", ["worker", "handing"])
async def test_a_pool_has_so_many_members(kind: str) -> None:
    with anyio.fail_after(5):
        async with running(type=kind, pool=3) as runtime:
            assert await at_once(runtime, {}, {}, {}, {}) == ["w.1", "w.2", "w.3"]
            assert runtime.print_tree().splitlines()[1] == "  [pool] w (one_for_one)"


@pytest.mark.parametrize("kind", ["worker", "handing"])
async def test_the_members_of_a_pool_may_have_several_hands_each(kind: str) -> None:
    with anyio.fail_after(5):
        async with running(type=kind, pool=2, concurrency=2) as runtime:
            assert await at_once(runtime, {}, {}, {}, {}, {}, {}) == ["w.1", "w.1", "w.2", "w.2"]


@pytest.mark.parametrize("kind", ["worker", "handing"])
@pytest.mark.parametrize("many", [{"pool": 2}, {"per_key": "s"}], ids=["pool", "keyed"])
async def test_config_and_options_reach_every_member_also_after_a_restart(kind: str, many: dict[str, Any]) -> None:
    options = {"config": {"greeting": "good day"}, "shutdown_timeout": 7, "description": "Works."}
    clock = ManualClock()
    with anyio.fail_after(5):
        async with running(clock, type=kind, **options, **many) as runtime:
            for _ in range(2):
                for _ in range(2):
                    reply = (await runtime.ask("w", {"s": "a"})).payload
                    assert (reply["greeting"], reply["shutdown_timeout"], reply["description"]) == ("good day", 7, "Works.")
                    assert reply["config"]["greeting"] == "good day"
                async with asyncio.TaskGroup() as callers:
                    crashed = callers.create_task(runtime.ask("w", {"s": "a", "boom": True}))
                    await clock.advance(1.0)
                assert crashed.result().attempt == 1


@pytest.mark.parametrize("many", [{"pool": 2}, {"per_key": "s"}], ids=["pool", "keyed"])
async def test_capabilities_belong_to_the_name_alone(many: dict[str, Any]) -> None:
    with anyio.fail_after(5):
        async with running(capabilities=["work"], **many) as runtime:
            await runtime.ask("w", {"s": "a"})
            assert runtime.router.registry.find_by_capability("work") == ["w"]


@pytest.mark.parametrize("kind", ["worker", "handing"])
async def test_the_mailbox_size_is_the_pools(kind: str) -> None:
    with anyio.fail_after(5):
        async with running(type=kind, pool=2, mailbox_size=3) as runtime, asyncio.TaskGroup() as callers:
            for number in (2, 3):
                for _ in range(number):
                    callers.create_task(runtime.ask("w", {"wait": True}))
                await settle()
            with pytest.raises(MailboxFull, match="3 messages wait"):
                await runtime.ask("w", {})
            Worker.gate.set()


@pytest.mark.parametrize("kind", ["worker", "handing"])
async def test_the_mailbox_size_is_each_keys(kind: str) -> None:
    with anyio.fail_after(5):
        async with running(type=kind, per_key="s", mailbox_size=1) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(2):
                callers.create_task(runtime.ask("w", {"wait": True, "s": "a"}))
                await settle()
            with pytest.raises(MailboxFull):
                await runtime.ask("w", {"s": "a"})
            assert (await runtime.ask("w", {"s": "b"})).payload["name"] == "w/b"
            Worker.gate.set()


async def test_per_key_has_a_process_for_each_caller_and_key() -> None:
    with anyio.fail_after(5):
        async with running(per_key="s") as runtime:
            names = {(await say(runtime, key, who))["name"] for key in "ab" for who in ("alice", "bob")}
            assert len(names) == 4
            with pytest.raises(KeyMissing, match="one process per 's'"):
                await runtime.ask("w", {})


async def test_shared_has_a_process_for_each_key() -> None:
    with anyio.fail_after(5):
        async with running(per_key="s", shared=True) as runtime:
            assert len({(await say(runtime, key, who))["name"] for key in "ab" for who in ("alice", "bob")}) == 2


async def test_max_keys_and_idle_timeout_hold() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with running(clock, per_key="s", max_keys=2, idle_timeout=7) as runtime:
            async with asyncio.TaskGroup() as callers:
                for key in "ab":
                    callers.create_task(say(runtime, key, None, wait=True))
                await settle()
                with pytest.raises(TooManyKeys):
                    await say(runtime, "c", None)
                Worker.gate.set()
            await clock.advance(6.0)
            assert len(runtime.all_agents()) == 2
            await clock.advance(2.0)
            assert runtime.all_agents() == []


def test_what_is_not_said_is_as_the_kernel_has_it() -> None:
    tree = {"supervision": {"children": [{"agent": {"name": "w", "type": "worker", "per_key": "s"}}]}}
    (node,) = load(tree, agent_classes=CLASSES).build().supervisor.which_children()
    assert isinstance(node, Keyed)
    assert (node.idle_timeout, node.max_keys, node.shared) == (300.0, 10_000, False)


def test_variables_may_say_how_many() -> None:
    text = """
        supervision:
          children:
            - {name: w, type: worker, pool: "${MEMBERS}", concurrency: "${HANDS}"}
            - {name: k, type: worker, per_key: s, max_keys: "${KEYS}", idle_timeout: "${IDLE}", shared: "${SHARED}"}
    """
    env = {"MEMBERS": "4", "HANDS": "2", "KEYS": "9", "IDLE": "2.5", "SHARED": "true"}
    pool, keyed = load_text(dedent(text), env=env, agent_classes=CLASSES).build().supervisor.which_children()
    assert isinstance(pool, Pool)
    assert isinstance(keyed, Keyed)
    assert [child.name for child in pool.children] == ["w.1", "w.2", "w.3", "w.4"]
    assert pool.template.concurrency == 2
    assert (keyed.max_keys, keyed.idle_timeout, keyed.shared) == (9, 2.5, True)


def test_each_build_is_a_fresh_one() -> None:
    topology = load({"supervision": {"children": [{"name": "w", "type": "worker", "pool": 2}]}}, agent_classes=CLASSES)
    one, two = (topology.build().supervisor.which_children()[0] for _ in range(2))
    assert isinstance(one, Pool)
    assert isinstance(two, Pool)
    assert one.children[0] is not two.children[0]


@pytest.mark.parametrize("many", [{"pool": 2}, {"per_key": "s"}], ids=["pool", "keyed"])
async def test_what_a_topology_made_can_be_replaced(many: dict[str, Any]) -> None:
    class Newer(Worker):
        async def handle(self, message: Message) -> Any:
            return {**await super().handle(message), "version": 2}

    with anyio.fail_after(5):
        async with running(config={"greeting": "good day"}, **many) as runtime:
            await runtime.ask("w", {"s": "a"})
            await runtime.replace("w", Newer)
            await runtime.restart_agent("w")
            reply = (await runtime.ask("w", {"s": "a"})).payload
            assert (reply["version"], reply["greeting"]) == (2, "good day")


@pytest.mark.parametrize("many", [{"pool": 2}, {"per_key": "s"}], ids=["pool", "keyed"])
async def test_an_agent_whose_name_is_fixed_elsewhere_starts_and_stops_with_its_runtime(many: dict[str, Any]) -> None:
    runtime = running(**many)
    with anyio.fail_after(5):
        for _ in range(2):
            async with runtime:
                assert (await runtime.ask("w", {"s": "a"})).payload["greeting"] == "hi"


# --- mistakes ---------------------------------------------------------------------------------------------------------


def mistakes(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        load_text(dedent(text), name="t.yaml", directory=Path(), agent_classes=CLASSES)
    return caught.value.mistakes


BEYOND = [
    ("pool: 0", "pool: must be at least 1 (0)."),
    ("pool: -3", "pool: must be at least 1 (-3)."),
    ("pool: 1.5", "pool: must be a whole number, not a number (1.5)."),
    ("pool: true", "pool: must be a whole number, not true or false (true)."),
    ("pool: many", "pool: must be a whole number, not a text ('many')."),
    ("concurrency: 0", "concurrency: must be at least 1 (0)."),
    ("concurrency: 2.5", "concurrency: must be a whole number, not a number (2.5)."),
    ("per_key: ''", "per_key: must not be empty."),
    ("per_key: 5", "per_key: must be a text, not a number (5)."),
    ("per_key: s, max_keys: 0", "max_keys: must be at least 1 (0)."),
    ("per_key: s, idle_timeout: 0", "idle_timeout: must be greater than 0 (0)."),
    ("per_key: s, idle_timeout: -1", "idle_timeout: must be greater than 0 (-1)."),
    ("per_key: s, idle_timeout: .inf", "idle_timeout: must be a finite number (inf)."),
    ("per_key: s, shared: maybe", "shared: must be true or false, not a text ('maybe')."),
    ("per_kye: s", "per_kye: this key is unknown. Did you mean 'per_key'?"),
    ("pol: 3", "pol: this key is unknown. Did you mean 'pool'?"),
]


@pytest.mark.parametrize(("settings", "expected"), BEYOND, ids=[settings for settings, _ in BEYOND])
def test_a_value_that_it_cannot_have_is_told_with_file_line_and_path(settings: str, expected: str) -> None:
    text = f"supervision:\n  children:\n    - agent: {{name: w, type: worker, {settings}}}\n"
    assert mistakes(text) == [f"t.yaml:3: supervision.children[0].agent.{expected}"]


CONTRADICTIONS = [
    ("pool: 2\n per_key: s", {"pool": "'per_key' is there as well: an agent is a pool or one process per key, not both."}, 5),
    ("max_keys: 5", {"max_keys": "'max_keys' belongs to an agent with 'per_key'."}, 5),
    ("idle_timeout: 5", {"idle_timeout": "'idle_timeout' belongs to an agent with 'per_key'."}, 5),
    ("shared: true", {"shared": "'shared' belongs to an agent with 'per_key'."}, 5),
    ("shared: false", {"shared": "'shared' belongs to an agent with 'per_key'."}, 5),
    ("max_keys: 5\n pool: 2", {"max_keys": "'max_keys' belongs to an agent with 'per_key'."}, 5),
]


@pytest.mark.parametrize(("settings", "expected", "line"), CONTRADICTIONS, ids=[settings for settings, _, _ in CONTRADICTIONS])
def test_settings_that_contradict_each_other_are_told_with_file_line_and_path(
    settings: str, expected: dict[str, str], line: int
) -> None:
    text = "supervision:\n  children:\n    - name: w\n      type: worker\n" + "".join(
        f"      {setting.strip()}\n" for setting in settings.splitlines()
    )
    assert mistakes(text) == [f"t.yaml:{line}: supervision.children[0].{key}: {fault}" for key, fault in expected.items()]


@pytest.mark.parametrize("setting", ["pool: 2", "per_key: s", "concurrency: 2"])
def test_a_dynamic_supervisor_has_no_such_setting(setting: str) -> None:
    (mistake,) = mistakes(f"supervision:\n  children:\n    - agent: {{name: d, type: dynamic_supervisor, {setting}}}\n")
    key = setting.partition(":")[0]
    assert mistake.startswith(f"t.yaml:3: supervision.children[0].agent.{key}: a DynamicSupervisor has no such setting")


@pytest.mark.parametrize("setting", ["pool: 2", "per_key: s", "concurrency: 2"])
def test_a_supervisor_has_no_such_setting_either(setting: str) -> None:
    (mistake,) = mistakes(f"supervision:\n  children:\n    - supervisor:\n        name: d\n        {setting}\n")
    assert mistake.startswith(f"t.yaml:5: supervision.children[0].supervisor.{setting.partition(':')[0]}: this key is unknown.")


def test_an_agent_that_has_the_name_of_a_member_is_a_mistake_like_any_other_name_that_is_taken() -> None:
    found = mistakes("""\
        supervision:
          children:
            - {name: w, type: worker, pool: 2}
            - {name: w.2, type: worker}
        """)
    assert len(found) == 1
    assert found[0].startswith("t.yaml:4: supervision.children[1].name: the name 'w.2' is taken by supervision.children[0]")


@pytest.mark.parametrize("many", ["pool: 2", "per_key: s"])
def test_a_route_may_lead_to_the_name_and_not_to_a_member(many: str) -> None:
    tree = f"""
        supervision:
          children:
            - {{name: w, type: worker, {many}}}
        routes:
          - {{path: /a, agent: AGENT}}
    """
    assert load_text(dedent(tree).replace("AGENT", "w"), agent_classes=CLASSES).routes
    (mistake,) = mistakes(tree.replace("AGENT", "w.1"))
    assert mistake == "t.yaml:6: routes[0].agent: there is no agent 'w.1'. There are: w."


@pytest.mark.parametrize("many", ["pool: 2", "per_key: s"])
def test_a_config_that_its_class_does_not_take_is_told_once(many: str) -> None:
    (mistake,) = mistakes(f"supervision:\n  children:\n    - {{name: w, type: worker, {many}, config: {{greting: x}}}}\n")
    assert mistake == (
        "t.yaml:3: supervision.children[0].config.greting: the constructor of Worker takes no 'greting'. Did you mean 'greeting'?"
    )
