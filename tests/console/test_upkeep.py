"""The views of what stands around the runs: external MCP servers, what models took, who did what."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from tests.cli.programs import DEMO
from tests.console.accessibility import faults
from tests.console.browser import PHONE
from tests.console.program import Program, running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Page, Route

    from tests.console.browser import Visit


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Generator[Program]:
    """The demo, which has an upstream and a model; both were used three times."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(DEMO.parent, folder, dirs_exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running(folder / DEMO.name, "--data", str(folder / "data"), env={"PATH": path}) as program:
        with httpx.Client(base_url=program.url, timeout=30) as http:
            for question in ("Which documents are there?", "When is it open?", "What about tea?"):
                asked = http.post("/agents/librarian", json={"message": question}, headers={"prefer": "wait=20"})
                assert asked.status_code == 200, asked.text
        yield program


def show(visit: Visit, address: str, **how: Any) -> Page:
    return visit.show(address, **how)


def test_an_upstream_is_shown_and_connected_anew(visit: Visit, demo: Program) -> None:
    page = show(visit, f"{demo.console}#/upstreams")

    card = page.get_by_role("article", name="mcp://library")
    expect(card.locator(".status")).to_have_text("connected")
    expect(card).to_contain_text("search_documents")
    card.get_by_role("button", name="Reconnect").click()
    page.get_by_role("dialog").get_by_role("button", name="Reconnect").click()

    expect(page.locator(".notices")).to_contain_text("mcp://library is connecting anew.")
    expect(card.locator(".status")).to_have_text("connected", timeout=20_000)


def test_what_models_took_is_summed_up_by_whatever_is_chosen(visit: Visit, demo: Program) -> None:
    with httpx.Client(base_url=demo.url, timeout=30) as http:
        total = http.get("/usage").json()["total"]
    page = show(visit, f"{demo.console}#/usage")

    expect(page.locator(".tiles")).to_contain_text(f"Model calls{total['calls']}")
    table = page.get_by_role("region", name="Usage by agent")
    expect(table.get_by_role("row").nth(1)).to_contain_text("librarian")
    page.get_by_role("button", name="Model", exact=True).click()
    expect(page.get_by_role("region", name="Usage by model").get_by_role("row").nth(1)).to_contain_text("gpt-4.1-mini")
    assert "by=model" in page.url
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("region", name="Usage by run").get_by_role("link")).to_have_count(3)
    page.get_by_label("Agent").fill("nobody")
    expect(page.get_by_text("No model was called in this time")).to_be_visible()


def told(route: Route) -> None:
    """Usage of a thousand runs and more, of whose calls nothing is known."""
    unknown = {"tokens_in": None, "tokens_out": None, "cost_usd": None, "unpriced_calls": 2, "unknown_calls": 2}
    by_day = "by=day" in route.request.url
    names = [{"day": datetime.now(UTC).date().isoformat()}] if by_day else [{"run": f"run-{number}"} for number in range(1000)]
    rows = [{"calls": 2, **unknown, **name} for name in names]
    route.fulfill(json={"rows": rows, "total": {"calls": 4000, **unknown}, "truncated": not by_day})


def test_what_is_not_known_of_usage_is_said_and_never_taken_for_nothing(visit: Visit, demo: Program) -> None:
    page = show(visit, demo.console)
    page.route("**/usage?*", told)
    page.evaluate("location.hash = '#/usage?by=run&days=7'")

    chart = page.locator(".day-chart")
    expect(chart).to_have_attribute("aria-label", "Tokens by day; not known of 1 day")
    page.get_by_role("button", name="Cost", exact=True).click()
    expect(chart).to_have_attribute("aria-label", "Cost by day; not known of 1 day")
    expect(page.get_by_role("region", name="By run", exact=True)).to_contain_text("The first 1,000 alone")


def test_a_view_that_cannot_be_drawn_says_so_and_the_rest_of_the_page_goes_on(visit: Visit, demo: Program) -> None:
    page = show(visit, demo.console, expected="Cannot read properties")
    page.route("**/usage?*", lambda route: route.fulfill(json={"rows": [], "total": None, "truncated": False}))
    page.get_by_role("link", name="Usage").click()
    expect(page.get_by_role("alert")).to_contain_text("This view cannot be drawn")
    page.get_by_role("link", name="Upstreams").click()
    expect(page.get_by_role("article", name="mcp://library")).to_be_visible()
    page.get_by_role("link", name="Usage").click()
    again = page.get_by_role("alert").get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    page.unroute("**/usage?*")

    again.click()

    expect(page.locator(".tiles")).to_contain_text("Model calls")


def test_who_did_what_is_listed_with_its_place_in_the_chain(visit: Visit, demo: Program) -> None:
    page = show(visit, f"{demo.console}#/audit")

    page.get_by_role("row").filter(has_text="gateway.started").click()

    with httpx.Client(base_url=demo.url, timeout=30) as http:
        entry = http.get("/audit", params={"action": "gateway.started"}).json()["entries"][0]
    expect(page.get_by_role("complementary")).to_contain_text(entry["hash"])
    page.get_by_label("Action").fill("nothing.like.it")
    expect(page.get_by_text("No entry is like that")).to_be_visible()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_nothing_keeps_anybody_from_using_these_views(visit: Visit, demo: Program) -> None:
    page = show(visit, demo.console, size=PHONE, scheme="dark")
    found: list[str] = []

    for address, ready in (("upstreams", "article"), ("usage", ".day-chart canvas"), ("audit", "[role=row]")):
        page.evaluate("address => { location.hash = `#/${address}` }", address)
        page.locator(ready).first.wait_for()
        found += [f"{address}: {fault}" for fault in faults(page)]
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), address

    assert found == []
