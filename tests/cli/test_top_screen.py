"""The live page in a terminal, driven by its keys, against a gateway in a process of its own."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.cli.terminal.app import TopApp
from portico.client import AsyncClient
from portico.routes import gateway_stream
from tests.app.serving import served
from tests.cli.desk import ended, furnished, house, start, until
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from textual.pilot import Pilot

pytestmark = pytest.mark.anyio


class Screen:
    """What a person at the terminal sees and does."""

    def __init__(self, app: TopApp, pilot: Pilot[None]) -> None:
        self.app = app
        self.press = pilot.press
        self.pilot = pilot

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()  # pyright: ignore[reportPrivateUsage]  # no public way to its text
        return "\n".join(strip.text for strip in strips)

    async def until(self, *texts: str) -> str:
        """Until all these are to be seen."""
        try:
            with anyio.fail_after(20):
                while not all(text in self.text for text in texts):
                    await self.pilot.pause(0.05)
        except TimeoutError:
            pytest.fail(f"no {texts} in\n{self.text}")
        return self.text

    async def until_gone(self, text: str) -> None:
        try:
            with anyio.fail_after(20):
                while text in self.text:
                    await self.pilot.pause(0.05)
        except TimeoutError:
            pytest.fail(f"still {text} in\n{self.text}")

    async def stand_on(self, name: str) -> None:
        """Move the cursor to a row."""
        await self.until(name)
        self.app.listing.show(name)
        assert self.app.listing.key == name


@asynccontextmanager
async def shown(url: str, size: tuple[int, int] = (80, 24), **more: Any) -> AsyncGenerator[Screen]:
    async with AsyncClient(url, retries=0, **more) as client:
        app = TopApp(client, url)
        async with app.run_test(size=size) as pilot:
            yield Screen(app, pilot)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    folder = furnished(tmp_path_factory.mktemp("screen"))
    with house(folder) as (_, address):
        yield address


def state(url: str, name: str) -> dict[str, Any]:
    return httpx.get(f"{url}/agents/{name}", trust_env=False).json()


async def test_a_crash_appears_in_the_tree_and_its_dead_letter_in_the_list(url: str) -> None:
    async with shown(url) as screen:
        await screen.until("press")
        start(url, "press", {"sheets": 2}, "crash-seen")
        await screen.press("4")
        await screen.until("crash-seen", "Agent 'press' crash")
        await screen.press("1")
        await screen.stand_on("press")
        await screen.press("enter")

        await screen.until("Agent press", "RuntimeError", "jammed", "Traceback")


async def test_a_run_that_waits_is_answered_by_its_form(url: str) -> None:
    start(url, "editor", {"title": "Form", "ask": True}, "to-answer")
    async with shown(url) as screen:
        await screen.press("3")
        await screen.stand_on("to-answer")
        await screen.press("a")
        await screen.until("Print it?", "as JSON")
        await screen.press("f7", *"[]", "ctrl+s")
        await screen.until("object")  # the gateway says what is wrong, and the form stays
        await screen.press("f7", *'{"yes": "gladly"}', "ctrl+s")
        await screen.until("Run to-answer goes on.")
        await screen.until_gone("asks:")

    assert ended(url, "to-answer")["output"] == "FORM, gladly"


async def test_escape_leaves_a_run_unanswered_and_cancel_asks_first(url: str) -> None:
    start(url, "editor", {"title": "Left", "ask": True}, "to-leave")
    async with shown(url) as screen:
        await screen.press("3")
        await screen.stand_on("to-leave")
        await screen.press("a")
        await screen.until("Print it?")
        await screen.press("escape")
        await screen.press("c")
        await screen.until("Cancel run to-leave?")
        await screen.press("enter")  # stands on "Leave it"
        await screen.until_gone("Cancel run to-leave?")
        kept = (await screen.app.client.runs.get("to-leave")).status
        await screen.press("c", "y")
        await screen.until("Run to-leave is cancelled.")

    assert kept == "waiting"
    assert ended(url, "to-leave")["status"] == "cancelled"


async def test_a_dead_letter_is_sent_again(url: str) -> None:
    start(url, "press", {"sheets": 3}, "to-redrive")
    ended(url, "to-redrive")
    async with shown(url) as screen:
        (letter,) = [one.id async for one in screen.app.client.dead_letters.list() if one.run_id == "to-redrive"]
        await screen.press("4")
        await screen.stand_on(letter)
        await screen.press("x", "y")
        await screen.until_gone(letter)


async def test_the_story_of_a_run_goes_on_while_it_is_looked_at(url: str) -> None:
    start(url, "editor", {"title": "Story", "ask": True}, "to-follow")
    until(url, "to-follow", "run.waiting")
    async with shown(url) as screen:
        await screen.press("2")
        await screen.stand_on("to-follow")
        await screen.press("enter")
        await screen.until("accepted for editor, operation publish", "waits for an answer: Print it?")
        await screen.app.client.runs.input("to-follow", {"yes": "now"})
        await screen.until("goes on: the answer has come", "succeeded", "STORY, now")
        await screen.press("escape")
        await screen.until("RUN", "STATUS")


async def test_runs_are_narrowed_by_status_agent_and_text(url: str) -> None:
    start(url, "printer", {"text": "x"}, "of-printer")
    start(url, "bell", {}, "of-bell")
    ended(url, "of-printer")
    async with shown(url) as screen:
        await screen.until("printer")
        await screen.stand_on("printer")
        await screen.press("l")
        await screen.until("Only agent printer.", "of-printer")
        await screen.until_gone("of-bell")
        await screen.press("escape")
        await screen.until("of-bell")
        await screen.press("slash", *"of-pri", "enter")
        await screen.until("Only with of-pri.", "of-printer")
        await screen.until_gone("of-bell")
        await screen.press("escape", "f")
        await screen.until("Only status running.")
        await screen.until_gone("of-printer")


async def test_an_agent_is_suspended_with_a_reason_and_resumed_and_restarted(url: str) -> None:
    async with shown(url) as screen:
        await screen.stand_on("bell")
        await screen.press("s")
        await screen.until("Suspend bell?")
        await screen.press(*"tuning", "enter")
        await screen.until("bell is suspended.", "1 held")
        held = state(url, "bell")
        await screen.press("r", "y")
        await screen.until("bell takes calls again.")
        await screen.until_gone("1 held")
        life = state(url, "bell")["incarnation"]
        await screen.press("R")
        await screen.until("Restart bell?")
        await screen.press("y")
        await screen.until("bell is restarted.")

    assert (held["status"], held["reason"]) == ("suspended", "tuning")
    assert state(url, "bell")["incarnation"] == life + 1


async def test_what_the_gateway_refuses_is_said_and_changes_nothing(url: str) -> None:
    async with shown(url) as screen:
        await screen.stand_on("root")
        await screen.press("R", "y")
        await screen.until("restart:")


async def test_a_key_that_may_not_watch_sees_the_tree_and_one_that_is_revoked_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_stream, "RENEW_EVERY", 0.0)
    file, keys = KeyFile(tmp_path / "keys.json"), dict[str, str]()
    with file.editing() as records:
        for name, scopes in (("admin", {"admin"}), ("reader", {"read"})):
            keys[name], record = new_key(Principal(name, frozenset(scopes)))
            records.append(record)
    async with served(Echo("echo"), keys_file=str(file.path)) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        async with shown(url, api_key=keys["reader"]) as screen:
            await screen.until("● asking", "echo")
            await screen.stand_on("echo")
            await screen.press("d", "enter")
            await screen.until("drain:", "admin")
        async with shown(url, api_key=keys["admin"]) as screen:
            await screen.until("● live")
            await screen.stand_on("echo")
            await screen.press("d")
            await screen.until("Drain echo?")
            await screen.press(*"moving", "enter")
            await screen.until("echo drains.", "suspended")
            with file.editing() as records:
                records.clear()
            await screen.until("○ refused", "API key")


async def test_help_tells_the_keys_and_every_view_can_be_looked_at(url: str) -> None:
    async with shown(url) as screen:
        await screen.until("editor")
        await screen.press("question_mark")
        await screen.until("Every action asks before it is done.", "send again (redrive)")
        await screen.press("escape")
        for key, text in (
            ("2", "OPERATION"),
            ("3", "ASKS"),
            ("4", "REASON"),
            ("5", "SERVER"),
            ("6", "TOKENS IN"),
            ("tab", "LAST CRASH"),
        ):
            await screen.press(key)
            await screen.until(text)
        lines = screen.text.split("\n")

    assert len(lines) == 24
    assert {len(line) for line in lines} == {80}


async def test_ten_thousand_rows_are_walked_through_without_delay(url: str) -> None:
    async with shown(url, size=(120, 40)) as screen:
        await screen.until("editor")
        picture = screen.app.picture
        many = [{"name": f"agent-{number}", "kind": "agent", "status": "running"} for number in range(10_000)]
        picture.set_tree({"name": "root", "kind": "sup", "strategy": "one_for_one", "children": many})
        begun = time.process_time()
        screen.app.listing.show()
        await screen.press("end")
        text = await screen.until("agent-9999")
        await screen.press(*["pageup"] * 5)
        took = time.process_time() - begun

    assert "agent-9970" in text
    assert took < 3  # seconds of the processor, with what else the page does meanwhile
