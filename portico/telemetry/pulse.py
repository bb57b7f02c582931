"""Pulse: what one gateway did within the last second, for who watches: calls, latency, runs, and what changed of agents.

Above: `routes/newsroom.py` asks once a second, for all of them. Below: the meter of calls, the book, the mailboxes: they are
read, so that nothing of this costs a call anything. Of ten thousand agents only those are looked at that have something to say.
"""

from __future__ import annotations

from collections import Counter
from operator import add, sub
from typing import TYPE_CHECKING, Any, Final

from portico.kernel.keyed_mailbox import KeyMailbox
from portico.runs.run_view import rfc3339
from portico.runs.status import RunStatus
from portico.runs.tree_view import MINUTE, figures_of
from portico.telemetry.call_meter import BOUNDS, OK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from portico.kernel.mailbox import Mailbox
    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.call_meter import CallMeter, Tally
    from portico.telemetry.loop_lag import LoopLag

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MOST_AGENTS: Final = 1000
"""How many agents are told of at a time; the others have their turn a second later."""
RECOUNT: Final = 10
"""After so many beats, the runs are counted again even where none is known to have changed."""


class _Seen:
    """What a tally said at the last beat."""

    __slots__ = ("admitted", "counts", "rejected", "tally")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.admitted = self.rejected = 0
        self.counts: dict[tuple[str, str], list[int]] = {}
        """How many calls fell into each bucket, by kind and outcome."""


class Pulse:
    """Of one gateway.

    Args:
        dispatcher: the one door.
        calls: who counts its calls; None where nobody does, and then there are no figures of calls.
        lag: who knows how late the event loop is.
        streams: how many event streams are open.
    """

    def __init__(self, dispatcher: Dispatcher, calls: CallMeter | None, lag: LoopLag | None, streams: Callable[[], int]) -> None:
        self._dispatcher = dispatcher
        self._calls = calls
        self._lag = lag
        self._streams = streams
        self._router = dispatcher.runtime.router
        self._told: dict[str, dict[str, Any]] = {}
        self._touched: set[str] = set()
        self._turn = 0
        self._runs: dict[str, int] = {}
        self._stored = 0
        self._recount_in = 0
        self._seen: dict[Any, _Seen] = {}

    def start(self) -> None:
        """Look at what there is: the first beat tells what happened since."""
        self._recount_in = 0
        if self._calls is not None:
            self._count(self._calls)

    def touch(self, name: str) -> None:
        """Something has happened to that process."""
        self._touched.add(name)
        mailbox = self._router.registry.get(name)
        if mailbox is not None and mailbox.behind:
            self._touched.add(mailbox.behind)

    def runs_changed(self) -> None:
        """A stored run has begun, ended, or taken a step."""
        self._recount_in = 0

    def beat(self) -> dict[str, Any]:
        """What happened since the last beat, or since `start`."""
        book = self._dispatcher.book
        self._count_runs()
        calls, latency = self._count(self._calls) if self._calls is not None else (None, None)
        return {
            "at": rfc3339(self._router.clock.time(), "milliseconds"),
            "calls": calls,
            "latency_ms": latency,
            "loop_lag_ms": round(self._lag.latest * 1000, 1) if self._lag is not None else None,
            "streams": self._streams(),
            "runs": self._runs,
            "dead_letters": book.dead_letters.total,
            "agents": self._agents(),
        }

    # --- calls --------------------------------------------------------------------------------------------------------

    def _count(self, meter: CallMeter) -> tuple[dict[str, int], dict[str, float] | None]:
        buckets = [0] * (len(BOUNDS) + 1)
        in_flight = admitted = rejected = ok = failed = 0
        before, self._seen = self._seen, {}  # whom the meter has forgotten, this forgets too
        for name, tally in (*meter.tallies.items(), (None, meter.other)):
            seen = before.get(name)
            if seen is None or seen.tally is not tally:  # one that came anew began at nothing
                seen = _Seen(tally)
            self._seen[name] = seen
            now_admitted, now_rejected = tally.plain + tally.stored, sum(tally.rejected.values()) if tally.rejected else 0
            admitted += max(0, now_admitted - seen.admitted)
            rejected += max(0, now_rejected - seen.rejected)
            seen.admitted, seen.rejected = now_admitted, now_rejected
            in_flight += tally.plain - tally.done
            for key, durations in tally.durations.items():
                then = seen.counts.get(key)
                if then != durations.counts:
                    counts = seen.counts[key] = list(durations.counts)
                    more = counts if then is None else list(map(sub, counts, then))
                    if key[1] == OK:  # kind, and outcome
                        ok += sum(more)
                    else:
                        failed += sum(more)
                    buckets = list(map(add, buckets, more))
        calls = {
            "admitted": admitted,
            "ok": ok,
            "failed": failed,
            "rejected": rejected,
            "in_flight": max(0, in_flight) + self._stored,
        }
        return calls, latency_of(buckets)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _count_runs(self) -> None:
        self._recount_in -= 1
        if self._recount_in >= 0:
            return
        self._recount_in = RECOUNT
        live = self._dispatcher.book.live.values()
        self._runs = {status.value: count for status, count in Counter(run.status for run in live).items()}
        self._stored = sum(run.parent is None and run.status is not RunStatus.WAITING for run in live)

    # --- agents -------------------------------------------------------------------------------------------------------

    def _agents(self) -> dict[str, dict[str, Any]]:
        told, minute_ago = self._told, self._router.clock.now() - MINUTE
        changed: dict[str, dict[str, Any]] = {}
        restless = self._restless()
        for at, mailbox in enumerate(restless):
            if isinstance(mailbox, KeyMailbox):
                continue  # its name is its caller's key
            now = {**figures_of(mailbox, minute_ago), "status": _status(mailbox)}
            name = mailbox.name
            if told.get(name) != now and (name in told or name in self._touched or _says_something(now)):
                if len(changed) == MOST_AGENTS:
                    self._turn += at
                    break
                changed[name] = now
            self._touched.discard(name)
            if _says_something(now):
                told[name] = now
            else:
                told.pop(name, None)
        else:
            self._touched.clear()
        return changed

    def _restless(self) -> list[Mailbox]:
        """Those that may have something to say: and where they are too many for one beat, each beat begins with others."""
        mailboxes = self._router.registry.mailboxes
        found = dict.fromkeys(name for name, box in mailboxes.items() if box.front or box.waiting or box.hands > 1 or not box.idle)
        self._touched &= mailboxes.keys()
        for gone in self._told.keys() - mailboxes.keys():
            del self._told[gone]
        found |= dict.fromkeys((*self._told, *self._touched))
        boxes = [mailboxes[name] for name in found]
        at = self._turn % len(boxes) if boxes else 0
        return boxes[at:] + boxes[:at]


def _says_something(figures: dict[str, Any]) -> bool:
    quiet = figures["status"] in ("running", None) and figures["intake"] == "open"
    return not quiet or any(figures.get(key) for key in ("depth", "in_flight", "restarts_per_minute", "keys"))


def _status(mailbox: Mailbox) -> str | None:
    """Where its process is in its life; None where several stand behind the name."""
    above = mailbox.parent
    child = above.children.get(mailbox.name) if above is not None and not mailbox.front else None
    return getattr(getattr(child, "present", None), "status", None)


def latency_of(buckets: Sequence[int]) -> dict[str, float] | None:
    """Quantiles in milliseconds, from how many calls fell into each bucket of `BOUNDS`; None where there was none.

    Between the bounds of a bucket they are guessed as if its calls were spread evenly.
    """
    total = sum(buckets)
    if total == 0:
        return None
    return {name: round(_quantile(buckets, share * total) * 1000, 2) for name, share in QUANTILES.items()}


def _quantile(buckets: Iterable[int], rank: float) -> float:
    below, lower = 0, 0.0
    for count, upper in zip(buckets, (*BOUNDS, BOUNDS[-1]), strict=True):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below, lower = below + count, upper
    return lower
