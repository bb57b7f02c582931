from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENTS = """
from __future__ import annotations

from portico.kernel.genserver import GenServer
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation, route


class Echo(AgentProcess):
    def __init__(self, name, greeting="hi"):
        super().__init__(name)
        self.greeting = greeting

    async def handle(self, message):
        return {"greeting": self.greeting, "payload": message.payload, "mailbox_size": self.mailbox_size}


class Counter(GenServer):
    async def handle_call(self, payload, from_):
        self.state["count"] = self.state.get("count", 0) + 1
        return self.state["count"]


class Reader(AgentProcess):
    def __init__(self, name, *, folder, tools=None, **options):
        if folder == "forbidden":
            raise ValueError("this folder is forbidden")
        super().__init__(name, **options)
        self.folder = folder

    async def handle(self, message):
        return self.folder


class Calculator(AgentProcess):
    @operation
    async def add(self, a: int, b: int) -> int:
        return a + b

    @operation
    async def negate(self, a: int) -> int:
        return -a


class Shop(AgentProcess):
    @route("POST", "/orders/{order}")
    async def buy(self, order: str) -> str:
        return order


class Misnamed(AgentProcess):
    def __init__(self, name):
        super().__init__("somebody-else")


class Nameless(AgentProcess):
    def __init__(self):
        super().__init__("nameless")


class Unresolvable(AgentProcess):
    @operation
    async def run(self, what: Missing) -> int:
        return 0


class Boss(Supervisor):
    pass


def function():
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of agents, and the working directory."""
    (tmp_path / "agents.py").write_text(AGENTS)
    monkeypatch.chdir(tmp_path)
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
