"""Every spelling of a topology loads, and means the same."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.genserver import GenServer
from portico.kernel.process import AgentProcess, Restart
from portico.kernel.supervisor import Backoff, Strategy, Supervisor
from portico.operations.operation import RouteSpec
from portico.topology.model import RetentionSettings, StoreSettings
from portico.topology.topology import Topology, load, load_text

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.usefixtures("folder")


def topology(text: str, **env: str) -> Topology:
    return load_text(dedent(text), directory=Path(), env=env)


def tree(text: str, **env: str) -> Supervisor:
    return topology(text, **env).build().supervisor


def only_child(node: str) -> Any:
    (child,) = tree(f"supervision: {{children: [{node}]}}").children
    return child


@pytest.mark.parametrize(
    "node",
    [
        "{agent: {name: echo, type: agents.Echo, config: {greeting: hello}}}",
        "{agent: {name: echo, type: 'agents:Echo', config: {greeting: hello}}}",
        "{agent: {name: echo, module: agents, class: Echo, config: {greeting: hello}}}",
        "{agent: {name: echo, type: agent, module: agents, class: Echo, config: {greeting: hello}}}",
        "{type: agents.Echo, name: echo, config: {greeting: hello}}",
        "{type: agent, module: agents, class: Echo, name: echo, config: {greeting: hello}}",
        "{module: agents, class: Echo, name: echo, config: {greeting: hello}}",
    ],
)
def test_an_agent_can_be_spelled_in_all_these_ways(node: str) -> None:
    echo = only_child(node)
    assert type(echo).__name__ == "Echo"
    assert (echo.name, echo.greeting, echo.config) == ("echo", "hello", {"greeting": "hello"})


@pytest.mark.parametrize(
    "node",
    [
        "{supervisor: {name: s, strategy: rest_for_one, max_restarts: 7, children: [{type: agents.Echo, name: e}]}}",
        "{supervisor: {name: s, strategy: REST_FOR_ONE, max_restarts: 7, children: [{agent: {type: agents.Echo, name: e}}]}}",
        "{type: supervisor, name: s, strategy: rest_for_one, max_restarts: 7, children: [{type: agents.Echo, name: e}]}",
        "{type: supervisor, name: s, config: {strategy: Rest_For_One, max_restarts: 7}, children: [{type: agents.Echo, name: e}]}",
    ],
)
def test_a_supervisor_can_be_spelled_in_all_these_ways(node: str) -> None:
    supervisor = only_child(node)
    assert type(supervisor) is Supervisor
    assert (supervisor.name, supervisor.strategy, supervisor.max_restarts) == ("s", Strategy.REST_FOR_ONE, 7)
    assert [child.name for child in supervisor.children] == ["e"]


@pytest.mark.parametrize("section", ["supervision", "supervisor"])
def test_the_tree_stands_under_either_key(section: str) -> None:
    root = tree(f"""
        {section}:
          name: top
          strategy: ONE_FOR_ALL
          max_restarts: 5
          restart_window: 30
          backoff: EXPONENTIAL
          backoff_base: 0.5
          backoff_max: 8
          children: [{{agent: {{name: a, type: agents.Echo}}}}]
    """)
    assert (root.name, root.strategy, root.max_restarts, root.restart_window) == ("top", Strategy.ONE_FOR_ALL, 5, 30.0)
    assert (root.backoff, root.backoff_base, root.backoff_max) == (Backoff.EXPONENTIAL, 0.5, 8.0)


def test_what_is_not_said_is_as_the_class_has_it() -> None:
    root, plain = tree("supervision: {children: }"), Supervisor("root")
    names = ("name", "children", "strategy", "max_restarts", "restart_window", "backoff", "backoff_base", "backoff_max")
    assert all(getattr(root, name) == getattr(plain, name) for name in names)


def test_type_names_of_the_house() -> None:
    counter = only_child("{type: gen_server, module: agents, class: Counter, name: c}")
    dynamic = only_child("{type: dynamic_supervisor, name: d, config: {max_children: 3, restart: temporary}}")
    assert isinstance(counter, GenServer)
    assert isinstance(dynamic, DynamicSupervisor)
    assert (dynamic.max_children, dynamic.child_restart) == (3, Restart.TEMPORARY)


def test_types_can_be_brought_along() -> None:
    class Mine(AgentProcess):
        pass

    def gateway(name: str, *, port: int = 1) -> AgentProcess:
        process = Mine(name)
        process.mailbox_size = port
        return process

    data = {
        "supervision": {
            "children": [{"type": "http_gateway", "name": "api", "config": {"port": 9}}, {"agent": {"name": "m", "type": "Mine"}}]
        }
    }
    children = load(data, node_types={"http_gateway": gateway}, agent_classes={"Mine": Mine}).build().supervisor.children
    assert [(type(child), child.name) for child in children] == [(Mine, "api"), (Mine, "m")]
    assert getattr(children[0], "mailbox_size", None) == 9


def test_a_constructor_with_a_parameter_config_gets_the_mapping_whole() -> None:
    class Whole(AgentProcess):
        def __init__(self, name: str, config: Mapping[str, int] | None = None) -> None:
            super().__init__(name)
            self.given = config

    nodes = [
        {"type": "whole", "name": "a", "config": {"port": 1}},
        {"type": "whole", "name": "b", "config": {"config": {"port": 2}}},
    ]
    children = load({"supervision": {"children": [*nodes, {"type": "whole", "name": "c"}]}}, agent_classes={"whole": Whole}).build()
    assert [vars(child)["given"] for child in children.supervisor.children] == [{"port": 1}, {"port": 2}, None]


def test_settings_of_an_agent_reach_it_whatever_its_constructor_takes() -> None:
    settings = """
        mailbox_size: 5, start_timeout: 6, shutdown_timeout: 7, handle_timeout: 8, restart: TEMPORARY, expose: true,
        capabilities: [echo, speech], description: Repeats., concurrency: 1
    """
    for node in (f"type: agents.Echo, name: a, {settings}", f"type: agents.Reader, name: a, config: {{folder: x}}, {settings}"):
        agent = only_child(f"{{{' '.join(node.split())}}}")
        assert (agent.mailbox_size, agent.start_timeout, agent.shutdown_timeout, agent.handle_timeout) == (5, 6.0, 7.0, 8.0)
        assert (agent.restart, agent.expose, agent.capabilities, agent.description) == (
            Restart.TEMPORARY,
            True,
            ["echo", "speech"],
            "Repeats.",
        )


def test_variables_become_the_values_that_are_wanted() -> None:
    text = """
        supervision:
          max_restarts: ${RESTARTS}
          children:
            - agent:
                name: ${NAME}
                type: agents.Echo
                mailbox_size: "${SIZE:-7}"
                description: "${NOTHING:-}"
                config: {greeting: "${GREETING}"}
            - agent:
                name: numbers
                type: agents.Reader
                config:
                  folder:
                    plain: ${SIZE:-7}
                    quoted: "${SIZE:-7}"
        server: {port: "${PORT}", docs: "${DOCS}"}
    """
    found = topology(text, RESTARTS="9", NAME="e", GREETING="12", PORT="0", DOCS="false")
    root = found.build().supervisor
    agents: Mapping[str, Any] = {agent.name: agent for agent in root.all_agents()}
    assert (root.max_restarts, agents["e"].mailbox_size, agents["e"].greeting) == (9, 7, "12")
    assert agents["numbers"].folder == {"plain": 7, "quoted": "7"}
    assert found.server.port == 0
    assert found.server.docs is not None
    assert not found.server.docs.enabled


def test_routes_are_as_the_catalogue_takes_them() -> None:
    found = topology(
        """
        supervision: {children: [{type: agents.Calculator, name: calc}, {type: agents.Echo, name: echo}]}
        routes:
          - {method: get, path: "/sum/{a}/{b}", agent: calc, operation: add, timeout: 3, on_disconnect: continue}
          - {path: /echo, agent: echo, mode: CALL}
          - {path: /tell, agent: echo, mode: cast}
          - {path: /tell/later, agent: echo, mode: send}
          - {path: /pay, agent: echo, durable: "${DURABLE}"}
    """,
        DURABLE="true",
    )
    assert found.routes == (
        (RouteSpec("GET", "/sum/{a}/{b}", "ask", 3.0, "continue"), "calc", "add"),
        (RouteSpec("POST", "/echo", "ask"), "echo", None),
        (RouteSpec("POST", "/tell", "send"), "echo", None),
        (RouteSpec("POST", "/tell/later", "send"), "echo", None),
        (RouteSpec("POST", "/pay", durable=True), "echo", None),
    )


def test_a_parameter_of_a_route_can_take_several_segments() -> None:
    found = topology("""
        supervision: {children: [{type: agents.Echo, name: echo}]}
        routes: [{path: "/files/{name}", agent: echo}, {path: "/files/{name:path}", agent: echo}]
    """)
    assert [spec.path for spec, _, _ in found.routes] == ["/files/{name}", "/files/{name:path}"]


def test_the_servers_settings_are_told_apart_from_what_is_not_said() -> None:
    said = topology("""
        supervision:
        supervisor: {}
        server: {host: 0.0.0.0, port: 9000, allowed_hosts: [a.example], request_timeout: 5, body_limit: 1024, docs: true}
    """).server
    assert (said.host, said.port, said.allowed_hosts, said.request_timeout, said.body_limit) == (
        "0.0.0.0",
        9000,
        ["a.example"],
        5.0,
        1024,
    )
    unsaid = topology("supervision: {}").server
    assert [unsaid.host, unsaid.port, unsaid.allowed_hosts, unsaid.request_timeout, unsaid.body_limit, unsaid.docs] == [None] * 6


def test_tool_servers_know_their_transport() -> None:
    servers = topology("""
        supervision: {}
        mcp:
          servers:
            - {name: a, command: python, args: [-m, 5], env: {PORT: 80}}
            - {name: b, url: "https://b.example/mcp", headers: {X-Key: k}, required: true, timeout: 3}
            - {name: c, transport: SSE, url: "https://c.example/sse"}
    """).tool_servers
    assert [(server.name, server.kind) for server in servers] == [("a", "stdio"), ("b", "streamable_http"), ("c", "sse")]
    assert (servers[0].args, servers[0].env) == (["-m", "5"], {"PORT": "80"})
    assert (servers[1].headers, servers[1].required, servers[1].timeout) == ({"X-Key": "k"}, True, 3.0)


@pytest.mark.parametrize(
    "section",
    [
        "models: {default: scripted, openai: {base_url: 'http://m.example'}, scripted: {}}",
        "plugins: {models: {default: scripted, openai: {base_url: 'http://m.example'}, scripted: {}}}",
    ],
)
def test_models_stand_under_either_key(section: str) -> None:
    models = topology(f"supervision: {{}}\n{section}").models
    assert models is not None
    assert (models.default, models.providers) == ("scripted", {"openai": {"base_url": "http://m.example"}, "scripted": {}})


def test_models_can_be_a_list_as_in_the_seed() -> None:
    models = topology(
        "supervision: {}\nplugins: {models: [{type: openai, config: {base_url: 'http://m.example'}}, {type: scripted}]}"
    ).models
    assert models is not None
    assert models.providers == {"openai": {"base_url": "http://m.example"}, "scripted": {}}


# --- the store --------------------------------------------------------------------------------------------------------

NO_TREE = "supervision: {}\n"


@pytest.mark.parametrize("section", ["", "store:", "store: memory", "store: Memory", "store: {}", "store: {type: memory}"])
def test_what_happens_is_kept_in_memory_unless_said_otherwise(section: str) -> None:
    found = topology(NO_TREE + section)
    assert found.store == StoreSettings()
    assert (found.store.type, found.store.retention.runs) == ("memory", 30 * 86400.0)
    assert (found.store.retention.payloads, found.store.retention.size) == (None, None)
    assert found.data_directory is None


@pytest.mark.parametrize(
    "section", ["store: sqlite", "store: SQLite", "store: {type: sqlite}", "store: '${STORE}'", "store: {type: '${STORE}'}"]
)
def test_a_store_in_a_file_can_be_spelled_in_all_these_ways(section: str, folder: Path) -> None:
    found = topology(NO_TREE + section, STORE="Sqlite")
    assert (found.store.type, found.store.path, found.store.synchronous) == ("sqlite", "data", "full")
    assert found.data_directory == folder.resolve() / "data"


def test_a_store_has_these_settings() -> None:
    found = topology(
        """
        supervision: {}
        store:
          type: sqlite
          path: elsewhere
          synchronous: NORMAL
          retention: {runs: "${RUNS}", payloads: 12h, size: 2GiB}
    """,
        RUNS="90000",
    )
    assert (found.store.path, found.store.synchronous) == ("elsewhere", "normal")
    assert found.store.retention == RetentionSettings(runs=90_000.0, payloads=43_200.0, size=2 * 1024**3)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("90s", 90.0),
        ("15m", 900.0),
        ("12h", 43_200.0),
        ("30d", 2_592_000.0),
        ("2W", 1_209_600.0),
        ("1.5h", 5400.0),
        ("1.5 h", 5400.0),
        ("0.1s", 0.1),
        ("7", 7.0),
        ("0.5", 0.5),
        ("forever", None),
        ("Forever", None),
        ("999999999999999d", 999_999_999_999_999 * 86_400.0),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_a_text(said: str, seconds: float | None) -> None:
    for key in ("plain", "variable"):
        value = said if key == "plain" else "'${AGE}'"
        found = topology(f"{NO_TREE}store: {{retention: {{runs: {value}, payloads: {value}}}}}", AGE=said)
        assert (found.store.retention.runs, found.store.retention.payloads) == (seconds, seconds)


@pytest.mark.parametrize(
    ("said", "size"),
    [
        ("5", 5),
        ("5B", 5),
        ("3kb", 3000),
        ("3KiB", 3072),
        ("100MB", 100_000_000),
        ("512MiB", 536_870_912),
        ("2GiB", 2_147_483_648),
        ("1.5 gib", 1_610_612_736),
        ("1TB", 10**12),
        ("1TiB", 2**40),
    ],
)
def test_a_size_is_a_number_of_bytes_or_a_text(said: str, size: int) -> None:
    found = topology(f"{NO_TREE}store: {{type: sqlite, retention: {{size: {said}}}}}")
    assert found.store.retention.size == size


def test_a_directory_is_relative_to_the_topology_and_to_the_working_directory_where_that_has_no_file(folder: Path) -> None:
    (folder / "conf").mkdir()
    file = folder / "conf" / "t.yaml"
    file.write_text(f"{NO_TREE}store: {{type: sqlite, path: ../state}}")
    assert load(file).data_directory == folder.resolve() / "state"
    assert load("conf/t.yaml").data_directory == folder.resolve() / "state"
    file.write_text(f"{NO_TREE}store: {{type: sqlite, path: /var/lib/portico}}")
    assert load(file).data_directory == Path("/var/lib/portico")
    assert load({"supervision": {}, "store": "sqlite"}).data_directory == folder.resolve() / "data"


def test_each_build_makes_fresh_processes() -> None:
    found = topology("supervision: {children: [{type: agents.Echo, name: a}]}")
    first, second = found.build().supervisor, found.build().supervisor
    assert first is not second
    assert first.children[0] is not second.children[0]


def test_the_json_schema_knows_every_section_and_is_a_schema() -> None:
    from jsonschema import Draft202012Validator

    schema = Topology.json_schema()
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {
        "supervision",
        "supervisor",
        "routes",
        "server",
        "transport",
        "store",
        "audit",
        "mcp",
        "models",
        "prices",
        "plugins",
    }
    validator: Any = Draft202012Validator(schema)
    assert validator.is_valid({"supervision": {"children": [{"agent": {"name": "a", "module": "m", "class": "C"}}]}})
    assert not validator.is_valid({"supervision": {"childen": []}})
    assert validator.is_valid({"store": "sqlite"})
    assert validator.is_valid({"store": {"type": "sqlite", "retention": {"runs": "30d", "size": 5}}})
    assert not validator.is_valid({"store": "sqlit"})
