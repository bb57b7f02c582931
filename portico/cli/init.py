"""`portico init NAME`: a new project that serves, with an agent, a topology and a test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.errors import ConfigurationError

AGENTS = '''"""The agents of this project."""

from pydantic import BaseModel

from portico import AgentProcess, operation


class Greeting(BaseModel):
    """What the greeter is asked."""

    name: str = "world"


class Greeted(BaseModel):
    """What the greeter answers."""

    text: str
    times: int


class Greeter(AgentProcess):
    """Greets people, and counts how often it did."""

    @operation
    async def greet(self, request: Greeting) -> Greeted:
        """Greet somebody by name."""
        self.state["times"] = self.state.get("times", 0) + 1
        return Greeted(text=f"Hello, {request.name}!", times=self.state["times"])
'''

TOPOLOGY = """# What runs, and who restarts it. Check it with: portico check
supervision:
  name: root
  strategy: one_for_one
  children:
    - {type: agents.Greeter, name: greeter}
"""

TEST = '''"""Run with: python -m unittest"""

import unittest

from agents import Greeter
from portico import Runtime, Supervisor


class GreeterTest(unittest.IsolatedAsyncioTestCase):
    async def test_it_greets_by_name(self) -> None:
        async with Runtime(Supervisor("root", [Greeter("greeter")])) as runtime:
            reply = await runtime.ask("greeter", {"name": "Ada"}, message_type="greet")
        self.assertEqual(reply.payload, {"text": "Hello, Ada!", "times": 1})
'''

FILES = {"agents.py": AGENTS, "topology.yaml": TOPOLOGY, "test_agents.py": TEST}


def init(
    name: Annotated[str, typer.Argument(help="The folder to make; . for this one.")],
) -> None:
    """Make a new project: an agent, a topology, a test."""
    folder = Path(name)
    taken = [file for file in FILES if (folder / file).exists()]
    if taken:
        raise ConfigurationError(f"{folder / taken[0]} is there already: nothing was written.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in FILES.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}.") from None
    typer.echo(f"Made {', '.join(FILES)} in {folder}. Next:\n")
    if name != ".":
        typer.echo(f"  cd {folder}")
    typer.echo("  portico serve")
    typer.echo("""  curl --json '{"name": "Ada"}' http://127.0.0.1:8080/agents/greeter""")
