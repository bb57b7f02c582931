"""The pages of `docs/` are run: their programs, their topologies, their commands. What is named in full there is counted."""

from __future__ import annotations

import re
import shutil
from dataclasses import MISSING, fields
from inspect import signature
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer

from portico.app.gateway import HTTPGateway
from portico.app.settings import GatewayConfig
from portico.cli import app
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.config import MCPServerConfig
from portico.routes.problems import STATUSES
from portico.runs.event import EventName
from portico.topology import model
from portico.topology.topology import load_text
from tests.docs.pages import DEMO, ROOT, Block, blocks, differences, environment, matches, programs, run, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(180)
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

PAGES = sorted((ROOT / "docs").glob("*.md"))
ROOMS = sorted(path.parent.name for path in (ROOT / "portico").glob("*/__init__.py"))
SECTIONS = [value for value in vars(model).values() if isinstance(value, type) and issubclass(value, model.Section)]


def text(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def missing(page: str, names: list[str]) -> list[str]:
    """Those names that a page does not have in backticks."""
    written = {word for code in re.findall(r"`([^`\n]+)`", text(page)) for word in re.split(r"[\s,|:=()\[\]{}]+", code)}
    return [name for name in names if name not in written]


# --- they are run -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "expected"), [pytest.param(*found, id=str(found[0])) for page in PAGES for found in programs(page)]
)
def test_a_program_runs_and_prints_what_the_page_shows(block: Block, expected: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    ended = run("python -W error program.py", cwd=tmp_path, env=environment(tmp_path))
    assert ended.returncode == 0, ended.stdout
    assert matches(ended.stdout, expected.strip("\n")), ended.stdout


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page, "yaml")], ids=str)
def test_a_topology_loads(block: Block) -> None:
    whole = block.text if re.search(r"^supervision:", block.text, re.MULTILINE) else f"{block.text}\nsupervision: {{name: root}}\n"
    loaded = load_text(whole, directory=DEMO, node_types={"http_gateway": HTTPGateway})
    assert loaded.build().supervisor.name


@needs_curl
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")], ids=lambda page: page.stem)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    env, told = environment(tmp_path), list[str]()
    with serving("portico serve examples/demo/topology.yaml", cwd=ROOT, env=env) as address:
        for block in blocks(page, "console"):
            told += differences(block, address, cwd=ROOT, env=env)
    assert told == [], "\n\n".join(told)


# --- they are whole ---------------------------------------------------------------------------------------------------


def test_every_room_has_a_page_that_says_when_not_to_use_it() -> None:
    pages = {page.stem: page.read_text(encoding="utf-8") for page in PAGES}
    assert [room for room in ROOMS if room not in pages] == []
    assert [room for room in ROOMS if "\n## When not to use it\n" not in pages[room]] == []


def test_every_room_and_only_rooms_stand_in_the_architecture() -> None:
    drawn = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    (house,) = re.findall(r"```text\nportico/\n(.*?)```", drawn, re.DOTALL)
    assert sorted(set(re.findall(r"(\w+)/", house))) == ROOMS


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_index_links_every_page() -> None:
    assert [page.name for page in PAGES if page.stem != "index" and f"({page.name})" not in text("index")] == []


def test_every_setting_of_the_gateway_is_told_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text("app"), re.MULTILINE))
    for about in fields(GatewayConfig):
        default: Any = None if about.default is MISSING else about.default
        listed = ",".join(cast("tuple[str, ...]", default)) if isinstance(default, tuple) else default
        told = "none" if listed in (None, "") else str(listed).lower()
        assert rows.get(about.name, "").strip().strip("`").replace(" ", "").lower() == told, about.name


def test_every_key_of_a_topology_is_told() -> None:
    keys = {key for section in SECTIONS for key in section.keys()} - {"docs"}  # noqa: SIM118  # a method of ours
    assert missing("topology", sorted(keys | {"default", "docs"})) == []


@pytest.mark.parametrize(
    ("page", "made"), [("kernel", AgentProcess), ("kernel", Supervisor), ("mcp_bridge", MCPServerConfig)], ids=str
)
def test_every_argument_is_told(page: str, made: type) -> None:
    assert missing(page, [name for name in signature(made.__init__).parameters if name != "self"]) == []


def test_every_command_and_option_is_told() -> None:
    group: Any = typer.main.get_command(app)
    names: list[str] = []
    for command in cast("dict[str, Any]", group.commands).values():
        if not command.hidden:
            names += [command.name, *(option for one in command.params if not one.hidden for option in one.opts if "-" in option)]
    assert len(names) > 10
    assert missing("cli", names) == []


def test_every_problem_is_told_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (\d+) \|", text("routes"), re.MULTILINE))
    assert rows == {slug: str(status) for slug, status in STATUSES.items()}


def test_every_event_is_told() -> None:
    assert missing("runs", [name.value for name in EventName]) == []
