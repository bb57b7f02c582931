"""Every kind of mistake, with the exact line that it is told in."""

# ruff: noqa: E501  # a line that is expected is written as one line

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from portico.errors import TopologyError
from portico.kernel.process import AgentProcess
from portico.topology.topology import load, load_text

pytestmark = pytest.mark.usefixtures("folder")


NO_DURATION = "no duration: a number of seconds, or a text such as 90s, 15m, 12h, 30d; 'forever' for no limit"
NO_SIZE = "no size: a number of bytes, or a text such as 100MB, 512MiB, 2GiB"


def mistakes(text: str, **env: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        load_text(dedent(text), name="t.yaml", directory=Path(), env=env)
    return caught.value.mistakes


def agent(settings: str) -> list[str]:
    """The mistakes of one agent, without what they all begin with."""
    found = mistakes(f"supervision:\n  children:\n    - agent: {{{settings}}}\n")
    start = "t.yaml:3: supervision.children[0].agent."
    assert all(line.startswith(start) for line in found), found
    return [line.removeprefix(start) for line in found]


def beside(section: str) -> list[str]:
    """The mistakes of a section beside a sound tree of agents."""
    tree = """
        supervision:
          children:
            - agent: {name: echo, type: agents.Echo}
            - agent: {name: calculator, type: agents.Calculator}
            - supervisor: {name: below}
    """
    return mistakes(dedent(tree) + dedent(section))


# --- the document -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["t.yaml: the file is empty."]),
        ("- a", ["t.yaml:1: a topology is a mapping, not a list."]),
        ("{}", ["t.yaml:1: supervision: this key is missing: it holds the tree of agents."]),
        ("supervisoin: {}", None),
        (
            "supervision: {name: a}\nsupervisor: {name: b}",
            ["t.yaml:2: supervisor: 'supervision' is there as well: they are two spellings of one thing."],
        ),
        ("supervision: [a]", ["t.yaml:1: supervision: must be a mapping, not a list (['a'])."]),
        (
            "supervision: {name: a}\nsecurity: {}",
            [
                "t.yaml:2: security: this key is unknown. Known: supervision, supervisor, routes, server, transport, store, audit, mcp, models, prices, plugins."
            ],
        ),
    ],
)
def test_a_document_is_a_mapping_with_known_sections(text: str, expected: list[str] | None) -> None:
    found = mistakes(text)
    if expected is None:
        expected = [
            "t.yaml:1: supervisoin: this key is unknown. Did you mean 'supervision'?",
            "t.yaml:1: supervision: this key is missing: it holds the tree of agents.",
        ]
    assert found == expected


# --- supervisors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (
            "strategy: one_for_al",
            "strategy: 'one_for_al' is not one of one_for_one, one_for_all, rest_for_one. Did you mean 'one_for_all'?",
        ),
        ("strategy: zzz", "strategy: 'zzz' is not one of one_for_one, one_for_all, rest_for_one."),
        ("strategy: 5", "strategy: 5 is not one of one_for_one, one_for_all, rest_for_one."),
        ("backoff: EXPONENTAL", "backoff: 'EXPONENTAL' is not one of constant, linear, exponential. Did you mean 'exponential'?"),
        ("max_restarts: -1", "max_restarts: must be at least 0 (-1)."),
        ("max_restarts: 1.5", "max_restarts: must be a whole number, not a number (1.5)."),
        ("max_restarts: true", "max_restarts: must be a whole number, not true or false (true)."),
        ("restart_window: -5", "restart_window: must be greater than 0 (-5)."),
        ("restart_window: 1m", "restart_window: must be a number, not a text ('1m')."),
        ("restart_window: .inf", "restart_window: must be a finite number (inf)."),
        ("backoff_base: -0.1", "backoff_base: must be at least 0 (-0.1)."),
        ("backoff_max: yes", "backoff_max: must be a number, not a text ('yes')."),
        ("max_restart: 5", "max_restart: this key is unknown. Did you mean 'max_restarts'?"),
        ("name: a b", None),
        ("children: {a: 1}", "children: must be a list, not a mapping ({'a': 1})."),
        (
            "children: [5]",
            "children[0]: a child is a mapping such as {agent: {name: …, type: …}}, not a number (5).",
        ),
        ("children: [{agnet: {name: a}}]", "children[0]: 'agnet' is no kind of child. Did you mean 'agent'?"),
        ("children: [{thing: {name: a}}]", "children[0]: 'thing' is no kind of child. Known: agent, supervisor."),
        ("children: [{supervisor: {strategy: one_for_one}}]", "children[0].supervisor.name: this key is missing."),
        (
            "children: [{type: supervisor, name: a, strategy: one_for_one, config: {strategy: one_for_all}}]",
            "children[0].config.strategy: 'strategy' is also said outside of 'config'.",
        ),
    ],
)
def test_a_supervisor_says_what_it_does_not_take(setting: str, expected: str | None) -> None:
    if expected is None:
        expected = "name: 'a b' is not a name: letters, digits, '_', '-', '.' and ':', at most 128 of them, the first one a letter, a digit or '_'."
    assert mistakes(f"supervision: {{{setting}}}") == [f"t.yaml:1: supervision.{expected}"]


# --- agents -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("type: agents.Echo", "name: this key is missing."),
        ("name: 5, type: agents.Echo", "name: must be a text, not a number (5)."),
        ("name: a, type: agents.Echo, mailbox_size: 0", "mailbox_size: must be at least 1 (0)."),
        ("name: a, type: agents.Echo, mailbox_sise: 9", "mailbox_sise: this key is unknown. Did you mean 'mailbox_size'?"),
        ("name: a, type: agents.Echo, handle_timeout: 0", "handle_timeout: must be greater than 0 (0)."),
        ("name: a, type: agents.Echo, expose: maybe", "expose: must be true or false, not a text ('maybe')."),
        ("name: a, type: agents.Echo, restart: always", "restart: 'always' is not one of permanent, transient, temporary."),
        ("name: a, type: agents.Echo, capabilities: x", "capabilities: must be a list, not a text ('x')."),
        ("name: a, type: agents.Echo, description: ''", "description: must not be empty."),
        ("name: a, type: agents.Echo, concurrency: 0", "concurrency: must be at least 1 (0)."),
        ("name: a, type: agents.Echo, config: [1]", "config: must be a mapping, not a list ([1])."),
    ],
)
def test_an_agent_says_which_setting_is_wrong(settings: str, expected: str) -> None:
    assert agent(settings) == [expected]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("name: a", "type: this key is missing: a type, or 'module' and 'class', says which class it is."),
        ("name: a, type: model_agnt", "type: there is no type 'model_agnt'. Did you mean 'model_agent'?"),
        (
            "name: a, type: x",
            "type: there is no type 'x'. Known: agent, gen_server, dynamic_supervisor, model_agent, supervisor, or the dotted path of a class (module.Class).",
        ),
        (
            "name: a, type: gen_server",
            "type: 'gen_server' needs a class: add 'module' and 'class', or write the type as module.Class.",
        ),
        ("name: a, type: agents.Eco", "type: module 'agents' has no class 'Eco'. Did you mean 'Echo'?"),
        (
            "name: a, type: agents.Zzzzzz",
            "type: module 'agents' has no class 'Zzzzzz'. It has: GenServer, AgentProcess, Echo, Counter, Reader, Calculator, Shop, Misnamed, Nameless, Unresolvable.",
        ),
        ("name: a, type: json.Zzzzzz", "type: module 'json' has no class 'Zzzzzz'. It has no agents."),
        ("name: a, type: agnts.Echo", "type: there is no module 'agnts'. Did you mean 'agents'?"),
        (
            "name: a, type: nowhere.at.all.Echo",
            "type: there is no module 'nowhere.at.all'. It is looked for beside the topology file and among what is installed.",
        ),
        ("name: a, type: ..Echo", "type: '.' is not a module's name."),
        ("name: a, type: pathlib.Path", "type: pathlib.Path is not an AgentProcess."),
        ("name: a, type: agents.function", "type: agents.function is not a class but function."),
        ("name: a, type: agents.Boss", "type: agents.Boss is a supervisor: a supervisor is written as {supervisor: {…}}."),
        ("name: a, module: agents", "class: this key is missing: 'module' needs it."),
        ("name: a, class: Echo", "module: this key is missing: 'class' needs it."),
        ("name: a, module: agents, class: Eco", "class: module 'agents' has no class 'Eco'. Did you mean 'Echo'?"),
        ("name: a, module: agnts, class: Echo", "module: there is no module 'agnts'. Did you mean 'agents'?"),
        (
            "name: a, type: gen_server, module: agents, class: Echo",
            "class: agents.Echo is not a GenServer, as type 'gen_server' says.",
        ),
        (
            "name: a, type: gen_serve, module: agents, class: Counter",
            "type: beside 'module' and 'class', 'gen_serve' is not a type. Did you mean 'gen_server'?",
        ),
        ("name: a, type: agents.Misnamed", "name: Misnamed names itself 'somebody-else' instead."),
        ("name: a, type: agents.Nameless", "type: the constructor of Nameless does not take a name first."),
    ],
)
def test_a_class_that_is_not_there_is_told_with_the_nearest(settings: str, expected: str) -> None:
    assert agent(settings) == [expected]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            "type: agents.Echo, config: {greting: x}",
            ["config.greting: the constructor of Echo takes no 'greting'. Did you mean 'greeting'?"],
        ),
        ("type: agents.Echo, config: {name: x}", ["config.name: the constructor of Echo takes no 'name'. It takes: greeting."]),
        (
            "type: agents.Shop, config: {colour: x}",
            [
                "config.colour: the constructor of Shop takes no 'colour'. It takes: concurrency, expose, handle_timeout, mailbox_size, restart, scopes, shutdown_timeout, start_timeout."
            ],
        ),
        (
            "type: agents.Reader, config: {foldr: x}",
            [
                "config.foldr: the constructor of Reader takes no 'foldr'. Did you mean 'folder'?",
                "config.folder: this key is missing: the constructor of Reader needs it.",
            ],
        ),
        (
            "type: agents.Reader, config: {folder: forbidden}",
            ["config: Reader cannot be made of this: ValueError: this folder is forbidden"],
        ),
        (
            "type: dynamic_supervisor, mailbox_size: 5, config: {max_childen: 5}",
            [
                "mailbox_size: a DynamicSupervisor has no such setting; its constructor's arguments stand under 'config'.",
                "config.max_childen: the constructor of DynamicSupervisor takes no 'max_childen'. Did you mean 'max_children'?",
            ],
        ),
    ],
)
def test_config_is_what_the_constructor_takes(settings: str, expected: list[str]) -> None:
    assert agent(f"name: a, {settings}") == expected


def test_an_operation_that_cannot_be_is_told() -> None:
    (line,) = agent("name: a, type: agents.Unresolvable")
    assert line.startswith("type: A type hint of agents.Unresolvable.run cannot be resolved: name 'Missing' is not defined")


def test_two_processes_of_one_name_are_told(folder: Path) -> None:
    text = """
        supervision:
          name: root
          children:
            - agent: {name: echo, type: agents.Echo}
            - agent: {name: echo, type: agents.Echo}
            - supervisor: {name: root}
            - agent: {name: mcp, type: agents.Echo}
        mcp: {servers: [{name: files, command: x}]}
    """
    assert mistakes(text) == [
        "t.yaml:6: supervision.children[1].agent.name: the name 'echo' is taken by supervision.children[0].agent.",
        "t.yaml:7: supervision.children[2].supervisor.name: the name 'root' is taken by supervision.",
        "t.yaml:8: supervision.children[3].agent.name: the name 'mcp' is taken by mcp.",
    ]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os\n\n\ndef fail():\n    raise ValueError('boom\\nmore')\n\n\nfail()\n", "broken.py:5: ValueError: boom"),
        ("def fail(:\n", "broken.py:1: SyntaxError: invalid syntax"),
        ("import nowhere\n", "broken.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("import json\n\njson.loads('{')\n", "broken.py:3: JSONDecodeError: "),
        ("raise SystemExit\n", "broken.py:1: SystemExit"),
        ("from agents import Nobody\n", "broken.py:1: ImportError: cannot import name 'Nobody' from 'agents'"),
    ],
)
def test_a_module_that_raises_is_told_with_its_own_file_and_line(folder: Path, code: str, expected: str) -> None:
    (folder / "broken.py").write_text(code)
    (line,) = agent("name: a, type: broken.Echo")
    assert line.startswith(f"type: module 'broken' cannot be imported: {expected}")


# --- routes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("method: GTE, path: /x, agent: echo", "method: 'GTE' is not one of GET, POST, PUT, PATCH, DELETE. Did you mean 'GET'?"),
        ("mode: aks, path: /x, agent: echo", "mode: 'aks' is not one of ask, send, call, cast. Did you mean 'ask'?"),
        ("timeout: 0, path: /x, agent: echo", "timeout: must be greater than 0 (0)."),
        (
            "on_disconnect: cancle, path: /x, agent: echo",
            "on_disconnect: 'cancle' is not one of cancel, continue. Did you mean 'cancel'?",
        ),
        ("durable: yes, path: /x, agent: echo", "durable: must be true or false, not a text ('yes')."),
        ("durble: true, path: /x, agent: echo", "durble: this key is unknown. Did you mean 'durable'?"),
        ("agent: echo", "path: this key is missing."),
        ("path: /x", "agent: this key is missing."),
        ("path: x, agent: echo", "path: 'x' must begin with '/'."),
        ("path: /a b, agent: echo", "path: '/a b' is not a path: no spaces, '?', '#', '\\' or '//'."),
        ("path: //a, agent: echo", "path: '//a' is not a path: no spaces, '?', '#', '\\' or '//'."),
        (
            "path: '/x/{y:paths}', agent: echo",
            "path: '{y:paths}' in '/x/{y:paths}' is not a parameter: a whole segment such as '{name}'.",
        ),
        ("path: '/x/{y', agent: echo", "path: '{y' in '/x/{y' is not a parameter: a whole segment such as '{name}'."),
        ("path: '/{y}/{y}', agent: echo", "path: '/{y}/{y}' has one parameter twice."),
        ("path: /docs, agent: echo", "path: '/docs' is reserved: /docs and what is below it belongs to the gateway."),
        ("path: /runs/5, agent: echo", "path: '/runs/5' is reserved: /runs and what is below it belongs to the gateway."),
        ("path: /x, agent: ech", "agent: there is no agent 'ech'. Did you mean 'echo'?"),
        ("path: /x, agent: zzz", "agent: there is no agent 'zzz'. There are: echo, calculator."),
        ("path: /x, agent: below", "agent: 'below' is a supervisor: it takes no calls."),
        ("path: /x, agent: calculator", "operation: this key is missing: agent 'calculator' has several operations (add, negate)."),
        ("path: /x, agent: calculator, operation: ad", "operation: agent 'calculator' has no operation 'ad'. Did you mean 'add'?"),
        ("path: /x, agent: echo, operation: zzz", "operation: agent 'echo' has no operation 'zzz'. It has: message."),
        (
            "path: '/x/{c}', agent: calculator, operation: add",
            "path: the request of calculator.add has no member 'c', which the path names. It has: a, b.",
        ),
    ],
)
def test_a_route_that_cannot_be_is_told(route: str, expected: str) -> None:
    assert beside(f"routes: [{{{route}}}]") == [f"t.yaml:7: routes[0].{expected}"]


def test_a_route_that_is_not_a_mapping_is_told_and_the_others_keep_their_numbers() -> None:
    assert beside("routes:\n  - 5\n  - {path: x, agent: echo}") == [
        "t.yaml:8: routes[0]: must be a mapping, not a number (5).",
        "t.yaml:9: routes[1].path: 'x' must begin with '/'.",
    ]


def test_a_route_declared_twice_is_told_whatever_its_parameters_are_called() -> None:
    routes = """
        routes:
          - {method: get, path: '/x/{a}', agent: echo}
          - {method: POST, path: '/x/{a}', agent: echo}
          - {method: GET, path: '/x/{b}/', agent: echo}
    """
    assert beside(routes) == ["t.yaml:11: routes[2].path: GET /x/{b}/ is declared twice: the first is routes[0]."]


def test_routes_of_decorators_are_looked_at_too() -> None:
    text = """
        supervision:
          children:
            - {name: one, type: agents.Shop}
            - {name: two, type: agents.Shop}
        routes:
          - {path: '/orders/{order}/', agent: one}
    """
    assert mistakes(text) == [
        "t.yaml:5: supervision.children[1].type: @route on two.buy: POST /orders/{order} is declared twice: the first is @route on one.buy.",
        "t.yaml:7: routes[0].path: POST /orders/{order}/ is declared twice: the first is @route on one.buy.",
    ]


# --- server, transport, tools, models ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("server: {port: 70000}", "server.port: must be at most 65535 (70000)."),
        ("server: {prot: 80}", "server.prot: this key is unknown. Did you mean 'port'?"),
        ("server: {body_limit: 0}", "server.body_limit: must be at least 1 (0)."),
        ("server: {allowed_hosts: [5]}", "server.allowed_hosts[0]: must be a text, not a number (5)."),
        ("server: {docs: {pth: /d}}", "server.docs.pth: this key is unknown. Did you mean 'path'?"),
        ("transport: {type: zmq}", "transport.type: the transport 'zmq' is not there: this version has only 'in_process'."),
        ("store: sqlit", "store: 'sqlit' is not one of memory, sqlite. Did you mean 'sqlite'?"),
        ("store: 5", "store: must be a mapping, not a number (5)."),
        ("store: {type: postgres}", "store.type: 'postgres' is not one of memory, sqlite."),
        ("store: {typ: sqlite}", "store.typ: this key is unknown. Did you mean 'type'?"),
        ("store: {path: x}", "store.path: only a store of 'type: sqlite' has 'path'."),
        ("store: {type: sqlit, path: x}", "store.type: 'sqlit' is not one of memory, sqlite. Did you mean 'sqlite'?"),
        ("store: {synchronous: full}", "store.synchronous: only a store of 'type: sqlite' has 'synchronous'."),
        ("store: {retention: {size: 2GiB}}", "store.retention.size: only a store of 'type: sqlite' has 'size'."),
        ("store: {type: sqlite, path: ''}", "store.path: must not be empty."),
        (
            "store: {type: sqlite, synchronous: ful}",
            "store.synchronous: 'ful' is not one of full, normal. Did you mean 'full'?",
        ),
        ("store: {retention: {run: 1d}}", "store.retention.run: this key is unknown. Did you mean 'runs'?"),
        ("store: {retention: {runs: 0}}", "store.retention.runs: must be greater than 0 (0)."),
        ("store: {retention: {runs: 0d}}", "store.retention.runs: must be greater than 0 ('0d')."),
        ("store: {retention: {runs: .inf}}", "store.retention.runs: must be a finite number (inf)."),
        ("store: {retention: {runs: 30days}}", f"store.retention.runs: '30days' is {NO_DURATION}. Did you mean '30d'?"),
        ("store: {retention: {runs: 5 Minutes}}", f"store.retention.runs: '5 Minutes' is {NO_DURATION}. Did you mean '5m'?"),
        ("store: {retention: {runs: 2months}}", f"store.retention.runs: '2months' is {NO_DURATION}."),
        ("store: {retention: {runs: '30'}}", f"store.retention.runs: '30' is {NO_DURATION}."),
        ("store: {retention: {runs: 1d2h}}", f"store.retention.runs: '1d2h' is {NO_DURATION}."),
        ("store: {retention: {runs: 1٣d}}", f"store.retention.runs: '1٣d' is {NO_DURATION}."),
        (
            "store: {retention: {payloads: for ever}}",
            f"store.retention.payloads: 'for ever' is {NO_DURATION}. Did you mean 'forever'?",
        ),
        ("store: {retention: {payloads: true}}", f"store.retention.payloads: true is {NO_DURATION}."),
        ("store: {retention: {payloads: [1d]}}", f"store.retention.payloads: ['1d'] is {NO_DURATION}."),
        (
            "store: {retention: {runs: 1d, payloads: 25h}}",
            "store.retention.payloads: this is longer than 'runs': no payload outlives its run.",
        ),
        ("store: {type: sqlite, retention: {size: 512M}}", f"store.retention.size: '512M' is {NO_SIZE}. Did you mean '512MiB'?"),
        ("store: {type: sqlite, retention: {size: forever}}", f"store.retention.size: 'forever' is {NO_SIZE}."),
        ("store: {type: sqlite, retention: {size: 0.5B}}", "store.retention.size: must be at least 1 ('0.5B')."),
        ("store: {type: sqlite, retention: {size: 1.5}}", "store.retention.size: must be a whole number, not a number (1.5)."),
        ("mcp: {server: []}", "mcp.server: this key is unknown. Did you mean 'servers'?"),
        ("mcp: {servers: [{command: x}]}", "mcp.servers[0].name: this key is missing."),
        (
            "mcp: {servers: [{name: a b, command: x}]}",
            "mcp.servers[0].name: 'a b' is not a name: letters, digits, '_' and '-', at most 64 of them.",
        ),
        (
            "mcp: {servers: [{name: a, command: x}, {name: a, command: y}]}",
            "mcp.servers[1].name: the name 'a' is taken by mcp.servers[0].",
        ),
        ("mcp: {servers: [{name: a}]}", "mcp.servers[0].command: this key is missing: a stdio server is started by a command."),
        ("mcp: {servers: [{name: a, transport: sse}]}", "mcp.servers[0].url: this key is missing: transport 'sse' needs it."),
        (
            "mcp: {servers: [{name: a, transport: http, url: 'http://x'}]}",
            "mcp.servers[0].transport: 'http' is not one of stdio, sse, streamable_http.",
        ),
        (
            "mcp: {servers: [{name: a, url: 'ftp://x'}]}",
            "mcp.servers[0].url: 'ftp://x' is not a URL that begins with http:// or https://.",
        ),
        (
            "mcp: {servers: [{name: a, command: x, url: 'http://x'}]}",
            "mcp.servers[0].url: a server has a 'command' (stdio) or a 'url' (streamable_http, sse), not both.",
        ),
        ("mcp: {servers: [{name: a, url: 'http://x', cwd: y}]}", "mcp.servers[0].cwd: only a stdio server has 'cwd'."),
        ("mcp: {servers: [{name: a, command: x, headers: {b: c}}]}", "mcp.servers[0].headers: only an HTTP server has 'headers'."),
        ("mcp: {servers: [{name: a, command: x, env: {b: [c]}}]}", "mcp.servers[0].env.b: must be a text, not a list (['c'])."),
        ("models: {openai: x}", "models.openai: must be a mapping, not a text ('x')."),
        (
            "models: {default: opnai, openai: {base_url: 'http://m.example'}}",
            "models.default: 'opnai' has no settings here. Did you mean 'openai'?",
        ),
        ("models: {default: zzz}", "models.default: 'zzz' has no settings here. There are: none."),
        (
            "models: {openai: {}}",
            "models.openai: The model provider 'openai' needs an api_key: https://api.openai.com/v1 takes no calls without one.",
        ),
        ("models: {opnai: {}}", "models.opnai: There is no model provider type 'opnai'. Did you mean 'openai'?"),
        ("models: {mine: {type: opnai}}", "models.mine: There is no model provider type 'opnai' of 'mine'. Did you mean 'openai'?"),
        (
            "models: {scripted: {rulez: []}}",
            "models.scripted: The model provider 'scripted' has no setting 'rulez'. Did you mean 'rules'?",
        ),
        (
            "models: {openai: {api_key: '${KEY:-}'}}",
            "models: No model provider is left: each has an empty `api_key`. Set one, or add `scripted`.",
        ),
        ("plugins: {exporters: []}", "plugins.exporters: this key is unknown. Known: models."),
    ],
)
def test_a_section_says_what_it_does_not_take(section: str, expected: str) -> None:
    assert beside(section) == [f"t.yaml:7: {expected}"]


def test_models_cannot_stand_under_both_keys() -> None:
    section = "models: {scripted: {}}\nplugins: {models: {scripted: {}}}"
    assert beside(section) == ["t.yaml:8: plugins.models: 'models' is there as well: they are two spellings of one thing."]


def test_a_tool_of_a_server_that_is_not_declared_is_told() -> None:
    text = """
        supervision:
          children:
            - {name: a, type: agents.Reader, config: {folder: x, tools: ["mcp://fils/read", "mcp://files/*", "plain"]}}
            - {name: b, type: agents.Reader, config: {folder: x, tools: ["mcp://zzz/read"]}}
        mcp: {servers: [{name: files, command: x}]}
    """
    assert mistakes(text) == [
        "t.yaml:4: supervision.children[0].config.tools[0]: 'mcp://fils/read': there is no MCP server 'fils'. Did you mean 'files'?",
        "t.yaml:5: supervision.children[1].config.tools[0]: 'mcp://zzz/read': there is no MCP server 'zzz'. There are: files.",
    ]
    assert agent("name: a, type: agents.Reader, config: {folder: x, tools: ['mcp://files/read']}") == [
        "config.tools[0]: 'mcp://files/read': there is no MCP server 'files'. None is declared (mcp.servers)."
    ]


# --- all at once ------------------------------------------------------------------------------------------------------


def test_mistakes_of_every_kind_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = """\
        supervision:
          strategy: one_for_al
          children:
            - agent: {name: a, type: agents.Eco}
            - agent: {name: b, type: agents.Echo, config: {greting: x}, mailbox_size: '${SIZE}'}
            - agent: {name: b, type: agents.Echo}
            - {nme: c}
        routes:
          - {method: PSOT, path: x, agent: c}
        colour: red
    """
    assert mistakes(text, SIZE="big") == [
        "t.yaml:2: supervision.strategy: 'one_for_al' is not one of one_for_one, one_for_all, rest_for_one. Did you mean 'one_for_all'?",
        "t.yaml:4: supervision.children[0].agent.type: module 'agents' has no class 'Eco'. Did you mean 'Echo'?",
        "t.yaml:5: supervision.children[1].agent.mailbox_size: must be a whole number, not a text (${SIZE}).",
        "t.yaml:5: supervision.children[1].agent.config.greting: the constructor of Echo takes no 'greting'. Did you mean 'greeting'?",
        "t.yaml:6: supervision.children[2].agent.name: the name 'b' is taken by supervision.children[1].agent.",
        "t.yaml:7: supervision.children[3].name: this key is missing.",
        "t.yaml:7: supervision.children[3].nme: this key is unknown. Did you mean 'name'?",
        "t.yaml:7: supervision.children[3].type: this key is missing: a type, or 'module' and 'class', says which class it is.",
        "t.yaml:9: routes[0].method: 'PSOT' is not one of GET, POST, PUT, PATCH, DELETE. Did you mean 'POST'?",
        "t.yaml:9: routes[0].agent: there is no agent 'c'. There are: a, b.",
        "t.yaml:9: routes[0].path: 'x' must begin with '/'.",
        "t.yaml:10: colour: this key is unknown. Known: supervision, supervisor, routes, server, transport, store, audit, mcp, models, prices, plugins.",
    ]


def test_a_value_out_of_the_environment_is_never_told() -> None:
    found = mistakes(
        "supervision: {name: a}\nserver: {port: '${KEY}', host: '${KEY}', docs: '${KEY}'}\nmodels: '${KEY}'", KEY="s3cret"
    )
    assert len(found) == 3
    assert "s3cret" not in "".join(found)


def test_what_a_store_is_told_out_of_the_environment_is_never_told() -> None:
    found = beside_with_key(
        "store: {type: '${KEY}', synchronous: '${KEY}', retention: {runs: '${KEY}', payloads: '${KEY}', size: '${KEY}'}}"
    )
    found += beside_with_key("store: '${KEY}'")
    assert [line.partition(":7: ")[2].partition(" ")[0] for line in found] == [
        *(
            "store.type:",
            "store.synchronous:",
            "store.retention.runs:",
            "store.retention.payloads:",
            "store.retention.size:",
            "store:",
        ),
    ]
    assert "8days" not in "".join(found)
    assert "Did you mean" not in "".join(found)


def beside_with_key(section: str) -> list[str]:
    return mistakes(f"supervision: {{}}\n\n\n\n\n\n{section}", KEY="8days")


def test_mistakes_of_a_mapping_have_paths_but_no_lines() -> None:
    tree: dict[str, Any] = {"children": [{"agent": {"name": "a", "type": "echo", "mailbox_size": 0}}]}

    class Echo(AgentProcess):
        pass

    with pytest.raises(TopologyError) as caught:
        load({"supervision": tree}, agent_classes={"echo": Echo})
    assert caught.value.mistakes == ["topology: supervision.children[0].agent.mailbox_size: must be at least 1 (0)."]


def test_the_error_counts_and_lists_its_mistakes() -> None:
    with pytest.raises(TopologyError) as caught:
        load_text("supervision: {nme: x, max_restarts: -1}")
    assert str(caught.value) == (
        "The topology has 2 mistakes:\n  topology.yaml:1: supervision.max_restarts: must be at least 0 (-1).\n  topology.yaml:1: supervision.nme: this key is unknown. Did you mean 'name'?"
    )
