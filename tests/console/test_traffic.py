"""What goes through the gateway, as the live page plots it: that figures arrive, are said in words, and are drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from tests.console.program import running

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Locator, Page

    from tests.console.browser import Visit
    from tests.console.program import Program

PLOTS = ("Calls per second", "Latency in milliseconds", "Calls in flight", "Loop lag in milliseconds")
ABOVE_0 = r"(?:[1-9]|0\.0*[1-9])[\d.,]*"
DRAWN = """
([canvas, sample, least]) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
  const wanted = getComputedStyle(sample).stroke.match(/[0-9]+/g).map(Number);
  const near = (at) => data[at + 3] > 200 && wanted.every((value, part) => Math.abs(value - data[at + part]) < 16);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) found += near(at);
  return found >= least;
}
"""
"""Whether so many pixels of a canvas have the colour of a line of the legend."""


@pytest.fixture(scope="module")
def program() -> Generator[Program]:
    with running(Path(__file__).with_name("topology.yaml")) as program:
        yield program


def ask(program: Program, *, times: int) -> None:
    with httpx.Client(base_url=program.url, timeout=20) as http:
        for number in range(times):
            http.post("/agents/echo", json={"number": number}).raise_for_status()


def plot(page: Page, name: str) -> Locator:
    return page.get_by_role("img", name=re.compile(f"^{name}, of the last minute:"))


def drawn(page: Page, figure: Locator, line: str, *, least: int) -> None:
    """Wait until that line covers so many pixels."""
    sample = page.locator("figure").filter(has=figure).get_by_role("listitem").filter(has_text=line).locator("line")
    page.wait_for_function(DRAWN, arg=[figure.locator("canvas").element_handle(), sample.element_handle(), least], timeout=10_000)


def test_calls_and_their_latencies_are_plotted_within_seconds_and_said_in_words(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/traffic")
    calls, latency, in_flight, lag = (plot(page, name) for name in PLOTS)
    expect(calls).to_be_visible()

    ask(program, times=20)

    expect(calls).to_have_attribute("aria-label", re.compile(rf": done {ABOVE_0} on average and {ABOVE_0} at most; failed 0 on"))
    expect(latency).to_have_attribute(
        "aria-label", re.compile(rf"; p95 {ABOVE_0} on average and {ABOVE_0} at most; p99 {ABOVE_0} ")
    )
    expect(in_flight).to_have_attribute("aria-label", re.compile(r": in flight [\d.]+ on average"))
    expect(lag).to_have_attribute("aria-label", re.compile(r": lag [\d.]+ on average"))
    for shown in (calls, latency, in_flight, lag):
        expect(shown.locator("canvas")).to_be_visible()
    drawn(page, calls, "done", least=20)


def test_the_latency_of_a_single_second_with_calls_is_seen_though_no_line_leads_to_it(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/traffic")
    latency = plot(page, PLOTS[1])
    expect(latency).to_be_visible()

    ask(program, times=1)

    expect(latency).to_have_attribute("aria-label", re.compile(f"; p99 {ABOVE_0} "))
    drawn(page, latency, "p99", least=4)


def test_what_fails_is_plotted_apart_and_stands_in_the_table_too(visit: Visit, program: Program) -> None:
    page = visit.show(f"{program.console}#/traffic")
    expect(plot(page, PLOTS[0])).to_be_visible()

    httpx.post(f"{program.url}/agents/baker/burn", json={}, timeout=20)

    expect(page.get_by_role("img", name=re.compile(f"; failed {ABOVE_0} on average and 1 at most"))).to_be_visible()
    page.get_by_text("The same as a table").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="Calls failed"))
    expect(row.get_by_role("cell").last).to_have_text("1")
