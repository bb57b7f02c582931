"""Headline: the figures above every view, as texts: how the connection is, what is wrong, calls, latency and what is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.cli.terminal.picture import mapping, whole
from portico.cli.terminal.run_views import asks
from portico.cli.terminal.table import Cell, Tone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from portico.cli.terminal.picture import Picture

BARS: Final = "▁▂▃▄▅▆▇█"
FAILING: Final = frozenset({"failed", "crashed", "restarting"})
"""The statuses of processes that need a look."""
HELD: Final = frozenset({"suspended", "draining"})
STATES: Final = {
    "live": Cell("● live", Tone.GOOD),
    "asking": Cell("● asking", Tone.NOTE),
    "connecting": Cell("○ connecting", Tone.DIM),
    "lost": Cell("○ lost", Tone.BAD),
    "refused": Cell("○ refused", Tone.BAD),
}


def summary(picture: Picture) -> Iterator[str]:
    """How many of what, in words: agents, those that fail, what waits."""
    yield from (cell.text for cell in counted(picture))


def counted(picture: Picture) -> Iterator[Cell]:
    """The same, with tones."""
    failing = sum(place.status in FAILING for place in picture.processes())
    held = sum(place.state in HELD for place in picture.places.values())
    waiting = sum(asks(run) for run in picture.waiting.values())
    letters = len(picture.letters)
    yield Cell(f"{sum(1 for _ in picture.processes())} processes")
    if failing:
        yield Cell(f"{failing} failing", Tone.BAD)
    if held:
        yield Cell(f"{held} held", Tone.NOTE)
    if waiting:
        yield Cell(f"{waiting} waiting for an answer", Tone.NOTE)
    if letters:
        yield Cell(f"{letters} dead letter{'' if letters == 1 else 's'}", Tone.BAD)


def figures(picture: Picture, room: int) -> list[Cell]:
    """The second line: calls and latency with their last minutes drawn, in `room` cells of the terminal."""
    now = picture.now
    if not now:
        return [Cell("no figures yet" if picture.link.state != "asking" else picture.link.reason, Tone.DIM)]
    calls, latency = mapping(now.get("calls")), mapping(now.get("latency_ms"))
    failed, rejected = whole(calls.get("failed")), whole(calls.get("rejected"))
    before = [Cell(f"calls/s {whole(calls.get('admitted')):>4} ", Tone.PLAIN)]
    between = [Cell(f"  p95 {milliseconds(latency.get('p95')):>7} ", Tone.PLAIN)]
    after = [Cell(f"  busy {whole(calls.get('in_flight'))}", Tone.GOOD if calls.get("in_flight") else Tone.DIM)]
    if failed:
        after.append(Cell(f"  failed {failed}", Tone.BAD))
    if rejected:
        after.append(Cell(f"  rejected {rejected}", Tone.NOTE))
    lag = now.get("loop_lag_ms")
    if isinstance(lag, int | float):
        after.append(Cell(f"  lag {milliseconds(lag)}", Tone.BAD if lag >= 100 else Tone.DIM))  # noqa: PLR2004  # a person notices
    width = max(4, (room - sum(len(cell.text) for cell in (*before, *between, *after))) // 2)
    admitted = [whole(mapping(one.get("calls")).get("admitted")) for one in picture.figures]
    p95 = [mapping(one.get("latency_ms")).get("p95") or 0 for one in picture.figures]
    return [*before, Cell(spark(admitted, width), Tone.GOOD), *between, Cell(spark(p95, width), Tone.NOTE), *after]


def spark(values: Sequence[float], width: int) -> str:
    """The last values as bars, the newest at the right; blank where there is none."""
    last = [float(value) for value in values[-width:]]
    top = max(last, default=0.0)
    bars = ["▁" if value <= 0 or top <= 0 else BARS[min(7, int(value / top * 7.999))] for value in last]
    return "".join(bars).rjust(width)


def milliseconds(value: Any) -> str:
    """A latency in three digits: `0.4 ms`, `12 ms`, `1.2 s`; a dash where there was none."""
    if not isinstance(value, int | float):
        return "-"
    if value < 10:  # noqa: PLR2004  # below that, a digit more tells something
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.1f} s"  # noqa: PLR2004  # milliseconds of a second
