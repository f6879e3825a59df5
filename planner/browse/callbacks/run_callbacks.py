"""Which runs there are, which are looked at, and how far they have come."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dash import Dash, Input, Output, State, html, no_update

from planner.browse import ids
from planner.browse.address import Address
from planner.browse.elements import picture_in_place
from planner.browse.run_shelf import Look, RunShelf, latest
from planner.figures.front_points import FrontPoints
from planner.figures.hypervolume_figure import hypervolume_figure
from planner.results.run_list import RunEntry
from search_spaces.errors import RunError

Revisions = list[tuple[str, str]]
"""Each chosen run with its revision; the first is the main one."""
_HYPERVOLUME_HEIGHT = 380
_LIVING = ("preparing", "searching", "rescoring")
_SILENT_SECONDS = 120.0
"""After which a run that should be at work is told to be silent."""


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""

    @app.callback(
        Output(ids.RUNS, "options"),
        Output(ids.RUNS, "value"),
        Output(ids.NOTICE, "children"),
        Output(ids.REVISIONS, "data"),
        Output(ids.RUN_STATES, "children"),
        Input(ids.PULSE, "n_intervals"),
        Input(ids.RUNS, "value"),
        Input(ids.URL, "search"),
        State(ids.RUNS, "options"),
        State(ids.REVISIONS, "data"),
    )
    def follow(
        _beat: int,
        chosen: list[str] | None,
        search: str | None,
        options: list[Any] | None,
        known: list[list[str]] | None,
    ) -> tuple[Any, ...]:
        address = None if search is None else Address.of(search)
        offered, wanted, notice = run_choices(shelf, address, options, chosen)
        looks = shelf.looks((chosen or []) if wanted is no_update else wanted)
        revisions = [[look.name, look.revision] for look in looks]
        lines = [state_line(look) for look in looks]
        return offered, wanted, notice, no_update if revisions == known else revisions, lines

    @app.callback(
        Output(ids.place(ids.HYPERVOLUME), "children"),
        Input(ids.REVISIONS, "data"),
        Input(ids.THEME_NOW, "data"),
        Input(ids.FRONT_SEEN, "data"),
    )
    def draw_hypervolume(revisions: Revisions | None, theme: str | None, _seen: Any) -> Any:
        points = points_of(shelf, revisions)
        if not points or theme is None:
            return no_update
        figure = hypervolume_figure(points, "dark" if theme == "dark" else "light")
        return picture_in_place(ids.HYPERVOLUME, figure, _HYPERVOLUME_HEIGHT)


def points_of(shelf: RunShelf, revisions: Revisions | None) -> list[FrontPoints]:
    """Return the plans of the chosen runs, of those that have any."""
    looks = shelf.looks([name for name, _ in revisions or ()])
    return [look.points for look in looks if look.points is not None]


def run_choices(
    shelf: RunShelf,
    address: Address | None,
    options: Sequence[Any] | None,
    chosen: list[str] | None,
) -> tuple[Any, Any, str]:
    """Return what the chooser offers, what is chosen in it, and a notice above the page.

    Args:
        shelf: The runs.
        address: Of the page; it decides while nothing is chosen. `None`: not known yet.
        options: What the chooser offers now.
        chosen: What is chosen now.
    """
    try:
        entries = [entry for entry in shelf.entries() if not entry.recipes]
    except RunError as error:
        return no_update, no_update, str(error)
    offered = [{"label": _label(entry), "value": entry.path.as_posix()} for entry in entries]
    notice = "" if entries else _nothing(shelf)
    wanted: Any = no_update
    names = {option["value"] for option in offered}
    # the chooser would drop what is not offered, and nobody would be told that it is gone
    lost = [name for name in chosen or () if name not in names]
    offered += [{"label": _unreadable(name), "value": name} for name in lost]
    if not chosen and address is not None:
        first = latest(entries)
        usual = [first.path.as_posix()] if first else no_update
        wanted = [name for name in address.runs if name in names] or usual
    return no_update if offered == options else offered, wanted, notice


def _nothing(shelf: RunShelf) -> str:
    return (
        f"No runs yet in {shelf.folder}. This page shows one as soon as it begins: "
        f"planner search MODEL --budget 'params<=0.7x' --out {shelf.folder}/NAME"
    )


def _label(entry: RunEntry) -> str:
    name = entry.path.as_posix()
    if entry.fault:
        return _unreadable(name)
    return f"{name} – {entry.model}, {entry.state}, {entry.evaluations:,} plans"


def _unreadable(name: str) -> str:
    return f"{name} – cannot be read"


def state_line(look: Look) -> html.Div:
    """Return how far a run has come, in a line; or why it cannot be read."""
    name = html.Code(look.name)
    if look.status is None:
        told: list[Any] = [name, html.Strong(" cannot be read: "), look.note]
        return html.Div(told, className="run-state fault")
    status = look.status
    is_alive = status.state in _LIVING
    is_waited_for = is_alive and not look.is_damaged
    unscored = "no plan is scored yet" if is_waited_for else look.note
    words = [f"{_plan_count(look.points):,} plans scored" if look.points else unscored]
    if is_alive:
        words += [f"{status.phase}, {status.share:.0%}"] if status.phase else []
        words += [] if status.eta_seconds is None else [_left(status.eta_seconds)]
        silence = (datetime.now(UTC) - status.updated_at).total_seconds()
        words += [f"silent for {silence / 60:.0f} min"] if silence > _SILENT_SECONDS else []
    elif status.failure:
        words.append(status.failure)
    words.append(f"as of {status.updated_at:%Y-%m-%d %H:%M:%S} UTC")
    state = html.Span(status.state, className=f"state {status.state}")
    kind = "run-state fault" if look.is_damaged else "run-state"
    return html.Div([name, " ", state, " ", " · ".join(words)], className=kind)


def _plan_count(points: FrontPoints) -> int:
    """Return how many plans there are, each with its variants once."""
    return len(points.frame) - len(points.rows_of_kind("recovered"))


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
