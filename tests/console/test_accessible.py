"""Every view can be used by those who see it badly, or not, or hold a phone: axe finds nothing, in light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.accessibility import faults
from tests.console.browser import DESKTOP, PHONE
from tests.console.program import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.console.browser import Visit
    from tests.console.program import Program

TOPOLOGY = Path(__file__).parent / "topology.yaml"
VIEWS = ("tree", "tree/baker", "traffic", "runs", "waiting", "dead-letters", "upstreams", "usage", "audit", "nowhere")


@pytest.fixture(scope="module")
def program() -> Generator[Program]:
    """With a crash and two runs, so that the views have something to show."""
    with running(TOPOLOGY) as program, httpx.Client(base_url=program.url, timeout=20) as client:
        client.post("/agents/baker/burn", json={})
        client.post("/agents/slow/cast", json={"seconds": 0.01})
        client.post("/runs", json={"agent": "baker", "operation": "bake", "payload": {"order": {"cake": "Sachertorte"}}})
        yield program


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_view(
    visit: Visit, program: Program, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    page = visit.show(program.console, size=size, scheme=scheme)
    found: list[str] = []
    for view in VIEWS:
        page.evaluate("(view) => { location.hash = `#/${view}` }", view)
        expect(page.get_by_role("main")).to_be_visible()
        page.wait_for_timeout(150)  # what it reads first
        found += [f"{view}: {fault}" for fault in faults(page)]

    assert found == []


def test_axe_finds_nothing_in_a_dialog_and_in_a_form_with_faults(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/tree/baker")
    page.get_by_role("button", name="Suspend").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    page.get_by_label("Cake").fill("x")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("[aria-invalid=true]")).to_be_visible()
    assert faults(page) == []


def test_axe_would_find_something(visit: Visit, program: Program) -> None:
    page = visit.show(program.console)
    expect(page.get_by_role("treegrid")).to_be_visible()
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")

    assert any(fault.startswith("button-name") for fault in faults(page))


def test_the_theme_can_be_chosen_and_is_kept(visit: Visit, program: Program) -> None:
    page = visit.show(program.console, scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_label("Theme").select_option("dark")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    expect(page.get_by_label("Theme")).to_have_value("dark")
    assert page.evaluate(ground) == dark
    page.get_by_label("Theme").select_option("system")
    assert page.evaluate(ground) == light
