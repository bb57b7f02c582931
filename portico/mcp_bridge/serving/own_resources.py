"""OwnResources: what the gateway itself lets read: the tree, and the caller's runs. HTTP shows the same at `/agents` and `/runs`.

    portico://agents                            portico://runs
    portico://agents/{name}                     portico://runs/{run_id}
                                                portico://runs/{run_id}/output
                                                portico://runs/{run_id}/events{?after}

Above: `resources.py`. Below: the dispatcher's book, and the views that every face shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.uri_template import UriTemplate
from mcp.types import Resource, ResourceTemplate, TextResourceContents

from portico.errors import UnknownAgent, UnknownResource, UnknownRun
from portico.mcp_bridge.serving.served_resource import JSON, contents_of
from portico.operations.offers import OWN_SCHEME
from portico.runs.printing import printable, printed
from portico.runs.run_view import event_line, printable_view
from portico.runs.status import RunStatus
from portico.runs.store import RunQuery
from portico.runs.tree_view import TreeView, exposed

if TYPE_CHECKING:
    from portico.mcp_bridge.serving.served_resource import Contents
    from portico.runs.dispatcher import Dispatcher
    from portico.runs.run import Run

JSON_LINES: Final = "application/jsonl"
RECENT: Final = 50
"""How many runs `portico://runs` shows."""
MOST_EVENTS: Final = 1000
"""How many events are read at once; the number of the last one leads to the next."""

MOST_DIGITS: Final = 18
"""No run has events beyond that, and a number of any length would keep the event loop busy."""

AGENTS: Final = "portico://agents"
AGENT: Final = UriTemplate.parse("portico://agents/{name}")
RUNS: Final = "portico://runs"
RUN: Final = UriTemplate.parse("portico://runs/{run_id}")
OUTPUT: Final = UriTemplate.parse("portico://runs/{run_id}/output")
EVENTS: Final = UriTemplate.parse("portico://runs/{run_id}/events{?after}")

_TEMPLATES: Final = (
    ResourceTemplate(
        uri_template=AGENT.template,
        name="agent",
        title="An agent",
        mime_type=JSON,
        description="Status, restarts, mailbox and operations of one agent.",
    ),
    ResourceTemplate(
        uri_template=RUN.template,
        name="run",
        title="A run",
        mime_type=JSON,
        description="The record of one of your runs: status, input, output or error, what it waits for.",
    ),
    ResourceTemplate(
        uri_template=EVENTS.template,
        name="run events",
        title="A run's events",
        mime_type=JSON_LINES,
        description=f"What has happened in one of your runs, one JSON object per line, {MOST_EVENTS} at most; "
        "`after`: only those with a higher number.",
    ),
    ResourceTemplate(
        uri_template=OUTPUT.template,
        name="run output",
        title="A run's output",
        description="What one of your runs has returned, once it has.",
    ),
)
TEMPLATES: Final = {template.uri_template: template for template in _TEMPLATES}
"""By address."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address of the gateway's own leads."""

    kind: str
    """`agents`, `agent`, `runs`, `run`, `output` or `events`."""
    name: str = ""
    """Of the agent, or the run's id."""
    after: int = 0
    """Only the events after this one."""


def place_of(uri: str) -> Place | None:
    """Where an address leads; None where nothing of the gateway's own can be."""
    if uri in (AGENTS, RUNS):
        return Place(uri.rpartition("/")[2])
    for kind, template in (("agent", AGENT), ("run", RUN), ("output", OUTPUT), ("events", EVENTS)):
        found = template.match(uri)
        if found is not None:
            name, after = found.get("name") or found.get("run_id"), str(found.get("after", "0"))
            if name and after.isascii() and after.isdigit():
                return Place(kind, str(name), int(after[:MOST_DIGITS]))
    return None


class OwnResources:
    """Reads what the gateway has of its own."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def listed(self) -> dict[str, Resource]:
        """What has an address without variables, and each agent, by address."""
        catalogue = self._dispatcher.catalogue
        agents = [
            Resource(uri=AGENT.expand({"name": name}), name=name, title=f"The agent {name}", mime_type=JSON)
            for name in catalogue.agents
        ]
        tree = "Every supervisor and process: status, restarts, mailbox."
        runs = f"The {RECENT} newest runs of yours, the newest first."
        own = [
            Resource(uri=AGENTS, name="agents", title="The supervision tree", mime_type=JSON, description=tree),
            *agents,
            Resource(uri=RUNS, name="runs", title="Your runs", mime_type=JSON, description=runs),
        ]
        return {resource.uri: resource for resource in own}

    async def read(self, uri: str, principal: str | None) -> Contents:
        """What stands there, for this caller.

        Raises:
            UnknownResource: nothing, or somebody else's.
        """
        place = place_of(uri)
        if place is None:
            raise UnknownResource(uri)
        try:
            return await self._read(uri, place, principal)
        except (UnknownAgent, UnknownRun) as error:
            raise UnknownResource(uri, error.detail) from None

    async def run_at(self, place: Place, principal: str | None) -> Run | None:
        """The run that a place is of; None where it is of none. Raises `UnknownRun`."""
        if place.kind not in ("run", "output", "events"):
            return None
        return await self._dispatcher.book.find(place.name, principal)

    async def check(self, place: Place, principal: str | None) -> None:
        """Raises `UnknownAgent` or `UnknownRun` where there is nothing for this caller."""
        await self.run_at(place, principal)
        if place.kind == "agent":
            exposed(self._dispatcher.runtime, self._dispatcher.catalogue, place.name)

    async def _read(self, uri: str, place: Place, principal: str | None) -> Contents:
        dispatcher = self._dispatcher
        runtime, catalogue, book = dispatcher.runtime, dispatcher.catalogue, dispatcher.book
        if place.kind == "agents":
            return _text(uri, await TreeView(runtime, catalogue).text_of(runtime.supervisor))
        if place.kind == "agent":
            return _text(uri, await TreeView(runtime, catalogue).text_of(exposed(runtime, catalogue, place.name)))
        if place.kind == "runs":
            runs = await book.page(RunQuery(principal=principal, limit=RECENT))
            return _json(uri, {"runs": [printable_view(run) for run in runs]})
        run = await book.find(place.name, principal)
        if place.kind == "run":
            return _json(uri, printable_view(run))
        if place.kind == "output":
            return _output(uri, run)
        return TextResourceContents(uri=uri, mime_type=JSON_LINES, text=await _events(run, place.after))


def is_own(uri: str) -> bool:
    """Whether an address is one of the gateway's own, if it is anything."""
    return uri.lower().startswith(OWN_SCHEME)


def uris_of_run(run_id: str) -> tuple[str, str, str]:
    """The addresses of a run: of its record, its output, its events."""
    return RUN.expand({"run_id": run_id}), OUTPUT.expand({"run_id": run_id}), EVENTS.expand({"run_id": run_id})


def _json(uri: str, value: Any) -> Contents:
    return _text(uri, printed(value))


def _text(uri: str, json: bytes) -> Contents:
    return TextResourceContents(uri=uri, mime_type=JSON, text=json.decode())


def _output(uri: str, run: Run) -> Contents:
    if run.status is not RunStatus.SUCCEEDED:
        raise UnknownResource(uri, f"the run has no output, it is {run.status.value}.")
    return contents_of(uri, printable(run.shown_output), (run.meta or {}).get("media_type"))


async def _events(run: Run, after: int) -> str:
    lines: list[str] = []
    while len(lines) < MOST_EVENTS and (more := await run.next_events(after)):
        after = more[-1].seq
        lines += [event_line(event, event.data).decode() for event in more]
    return "".join(lines[:MOST_EVENTS])
