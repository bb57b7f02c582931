"""`Runtime.from_config`: from a file to a running tree."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.errors import TopologyError, UnknownTool
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.topology.checks import TOOLS_SUPERVISOR
from portico.topology.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio


class Crashing(AgentProcess):
    """Crashes on the first delivery of each message."""

    def __init__(self, name: str) -> None:
        super().__init__(name)

    async def handle(self, message: Message) -> object:
        if message.attempt == 0:
            raise RuntimeError("the first delivery")
        return {"id": self.id, "mailbox_size": self.mailbox_size, "capabilities": self.capabilities, "config": dict(self.config)}


def write(folder: Path, text: str, name: str = "topology.yaml") -> Path:
    path = folder / name
    path.write_text(dedent(text))
    return path


async def test_a_file_becomes_a_running_tree(folder: Path) -> None:
    path = write(
        folder,
        """
        supervision:
          name: top
          children:
            - agent: {name: echo, type: agents.Echo, mailbox_size: 5, config: {greeting: "${GREETING}"}}
            - supervisor: {name: below, children: [{type: gen_server, module: agents, class: Counter, name: counter}]}
        """,
    )
    with anyio.fail_after(5):
        async with Runtime.from_config(path, env={"GREETING": "good morning"}) as runtime:
            reply = await runtime.ask("echo", "x")
            assert reply.payload == {"greeting": "good morning", "payload": "x", "mailbox_size": 5}
            assert [await runtime.call("counter", None) for _ in range(2)] == [1, 2]
            assert runtime.print_tree() == (
                "[sup] top (one_for_one)\n  [agent] echo (running)\n  [sup] below (one_for_one)\n    [srv] counter (running)"
            )


async def test_settings_of_the_topology_survive_restarts() -> None:
    node = {"name": "c", "type": "crashing", "mailbox_size": 7, "capabilities": ["crash"]}
    data = {"supervision": {"max_restarts": 10, "backoff_base": 0, "children": [{"agent": node}]}}
    with anyio.fail_after(5):
        async with Runtime.from_config(data, agent_classes={"crashing": Crashing}) as runtime:
            for incarnation in (2, 3):
                reply = await runtime.ask("c", None)
                assert reply.payload == {"id": f"c#{incarnation}", "mailbox_size": 7, "capabilities": ["crash"], "config": {}}
            assert runtime.router.registry.find_by_capability("crash") == ["c"]


class Asking(AgentProcess):
    """Asks the model what it is asked."""

    async def handle(self, message: Message) -> str:
        response = await self.llm.chat("", [{"role": "user", "content": message.payload}])
        return response.content


async def test_declared_models_are_what_agents_find_as_llm() -> None:
    rules = [{"when": "hello", "say": "good morning"}, {"say": "what?"}]
    data = {
        "supervision": {"children": [{"agent": {"name": "a", "type": "asking"}}]},
        "models": {"openai": {"api_key": "${KEY:-}"}, "scripted": {"rules": rules}},
    }
    with anyio.fail_after(5):
        async with Runtime.from_config(data, agent_classes={"asking": Asking}) as runtime:
            assert [await runtime.call("a", text) for text in ("hello you", "x")] == ["good morning", "what?"]


SERVER = """
import os
import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("where", log_level="ERROR")


@server.tool()
def where(word: str) -> str:
    return f"{word} {sys.argv[1]} {os.environ['COLOUR']} {os.getcwd()}"


server.run("stdio")
"""


class Using(AgentProcess):
    """Uses the tool that it is asked for."""

    async def handle(self, message: Message) -> object:
        return await self.tools.get(message.payload).execute(word="hello")


async def test_declared_mcp_servers_run_in_the_folder_of_the_topology(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "tool_server.py").write_text(SERVER)
    path = write(
        folder,
        """
        supervision: {children: [{agent: {name: user, type: using}}]}
        mcp: {servers: [{name: s, command: python, args: [tool_server.py, 5], env: {COLOUR: "${COLOUR}"}, required: true}]}
        """,
    )
    monkeypatch.chdir("/")
    with anyio.fail_after(30):
        async with Runtime.from_config(path, {"using": Using}, env={"COLOUR": "red"}) as runtime:
            assert [child.name for child in runtime.supervisor.which_children()] == [TOOLS_SUPERVISOR, "user"]
            assert f"hello 5 red {folder}" in str(await runtime.call("user", "mcp://s/where", timeout=20))


class Bringing(AgentProcess):
    """Brings its own server along."""

    async def on_start(self) -> None:
        if not self.tools.names():
            await self.connect_mcp({"name": "s", "command": "python", "args": ["tool_server.py", "5"], "cwd": self.folder})

    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name)
        self.folder = folder

    async def handle(self, message: Message) -> object:
        return await self.tools.get("mcp://s/where").execute(word=message.payload)


async def test_an_agent_of_a_runtime_that_was_given_no_tools_can_connect_a_server_of_its_own(folder: Path) -> None:
    (folder / "tool_server.py").write_text(SERVER.replace("os.environ['COLOUR']", "'blue'"))
    runtime = Runtime(Supervisor("root", [Bringing("agent", str(folder))]))
    with anyio.fail_after(40):
        for _ in range(2):  # a runtime that is started again connects again
            async with runtime:
                assert f"hello 5 blue {folder}" in str(await runtime.call("agent", "hello", timeout=20))
                assert [root.name for root in runtime.roots] == ["root", TOOLS_SUPERVISOR]
                assert "mcp://s" in {agent.name for agent in runtime.all_agents()}
            assert [root.name for root in runtime.roots] == ["root"]


def test_a_runtime_without_tools_has_none_until_a_server_is_connected() -> None:
    tools = Runtime(Supervisor("root")).services.tools
    assert tools is not None
    assert tools.names() == []
    assert list(tools) == []
    with pytest.raises(UnknownTool):
        tools.get("mcp://s/where")


async def test_other_settings_of_a_runtime_can_be_given() -> None:
    runtime = Runtime.from_config({"supervision": {}}, stop_timeout=3.0)
    assert runtime.stop_timeout == 3.0


def test_modules_of_two_folders_do_not_mix(folder: Path) -> None:
    classes: list[type] = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "workers.py").write_text(
            f"from portico.kernel.process import AgentProcess\n\n\nclass Worker(AgentProcess):\n    where = {name!r}\n"
        )
        path = write(folder / name, "supervision: {children: [{type: workers.Worker, name: w}]}")
        classes.append(type(Runtime.from_config(path).all_agents()[0]))
    assert [vars(cls)["where"] for cls in classes] == ["one", "two"]


def test_a_module_beside_the_topology_is_found_first_and_later_imports_still_work(folder: Path) -> None:
    path = write(folder, "supervision: {children: [{type: late.Late, name: late}]}")
    (folder / "helper.py").write_text("VALUE = 5\n")
    (folder / "late.py").write_text(
        "from portico.kernel.process import AgentProcess\n\n\nclass Late(AgentProcess):\n"
        "    def value(self):\n        import helper\n        return helper.VALUE\n"
    )
    before = list(sys.path)
    agent = Runtime.from_config(path).all_agents()[0]
    assert sys.path == [*before, str(folder.resolve())]
    assert getattr(agent, "value")() == 5  # noqa: B009  # the class is known at run time only


def test_a_mistake_names_the_file_as_it_was_given(folder: Path) -> None:
    write(folder, "supervision: {nme: x}")
    with pytest.raises(TopologyError) as caught:
        Runtime.from_config("topology.yaml")
    assert caught.value.mistakes == ["topology.yaml:1: supervision.nme: this key is unknown. Did you mean 'name'?"]
    with pytest.raises(TopologyError) as caught:
        Runtime.from_config("nowhere.yaml")
    assert caught.value.mistakes == ["nowhere.yaml: the file cannot be read: No such file or directory."]


def test_the_runtime_alone_loads_neither_pydantic_nor_yaml() -> None:
    code = "import sys, portico.topology.runtime; print(sorted({'pydantic', 'yaml', 'mcp', 'httpx'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
