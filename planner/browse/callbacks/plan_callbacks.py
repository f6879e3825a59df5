"""The chosen plan, or two: where they are chosen, and what is told of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from planner.browse import ids
from planner.browse.callbacks.budget_callbacks import Selection
from planner.browse.callbacks.run_callbacks import Revisions, points_of
from planner.browse.elements import picture_in_place, table
from planner.browse.exporting.measured_rows import SPEED_HEADS, speed_rows
from planner.browse.plan_details import SCORE_HEADS, PlanDetails, details_of
from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import described_plans, key_of, plan_of
from planner.figures.difference_figure import difference_figure
from planner.figures.figure_style import Theme
from planner.figures.front_points import FrontPoints
from planner.figures.layer_figure import layer_figure
from planner.results.plan_difference import PlanDifference, plan_difference
from planner.run import Run
from search_spaces.errors import InputError, in_words


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""
    _register_choice(app, shelf)
    _register_comparison(app, shelf)

    @app.callback(
        output={
            "shown": Output(ids.PLAN_SHOWN, "data"),
            "title": Output(ids.PLAN_TITLE, "children"),
            "drops": Output(ids.DROPS, "children"),
            "layers": Output(ids.place(ids.LAYERS), "children"),
            "costs": Output(ids.COSTS, "children"),
            "scores": Output(ids.SCORES, "children"),
            "latency": Output(ids.LATENCY, "children"),
            "json": Output(ids.PLAN_JSON, "children"),
            "no_json": Output(ids.DOWNLOAD_JSON, "disabled"),
            "no_export": Output(ids.EXPORT_START, "disabled"),
        },
        inputs={
            "selection": Input(ids.SELECTION, "data"),
            "revisions": Input(ids.REVISIONS, "data"),
            "exports": Input(ids.EXPORTS_SHOWN, "data"),
            "theme": Input(ids.THEME_NOW, "data"),
            "seen": Input(ids.FRONT_SEEN, "data"),
            "shown": State(ids.PLAN_SHOWN, "data"),
        },
    )
    def tell(
        selection: Selection | None,
        revisions: Any,
        exports: Any,
        theme: Any,
        seen: Any,  # noqa: ARG001  (the first picture comes first)
        shown: Any,
    ) -> dict[str, Any]:
        asked = [selection, revisions, exports, theme]
        if not selection or theme is None or asked == shown:
            return dict.fromkeys(_TOLD, no_update)
        name, plan_id = selection[0]
        try:
            found = shelf.ask(lambda run: details_of(run, plan_id, shelf.folder), name)
        except InputError as error:
            kept = dict.fromkeys(_TOLD, no_update)
            return kept | {"title": in_words(error), "no_export": True, "no_json": True}
        return told(found, name, _theme(theme)) | {"shown": asked}


def _register_comparison(app: Dash, shelf: RunShelf) -> None:
    @app.callback(
        Output(ids.COMPARISON, "hidden"),
        Output(ids.VERDICT, "children"),
        Output(ids.place(ids.DIFFERENCE), "children"),
        Input(ids.SELECTION, "data"),
        Input(ids.THEME_NOW, "data"),
        Input(ids.FRONT_SEEN, "data"),
    )
    def compare(selection: Selection | None, theme: str | None, _seen: Any) -> tuple[Any, ...]:
        if not selection or len(selection) < 2:
            return True, "", None
        try:
            found = difference_of(shelf, selection)
        except InputError as error:
            return False, in_words(error), None
        figure = difference_figure(found, _theme(theme))
        return False, found.sentence, _strips(ids.DIFFERENCE, figure)

    @app.callback(
        Output(ids.JSON_FILE, "data"),
        Input(ids.DOWNLOAD_JSON, "n_clicks"),
        State(ids.PLAN_JSON, "children"),
        State(ids.SELECTION, "data"),
    )
    def download(_clicks: int, text: str | None, selection: Selection | None) -> Any:
        if not text or not selection:
            return no_update
        return {"content": text, "filename": f"plan-{selection[0][1]}.json"}


_TOLD = (
    *(
        "shown",
        "title",
        "drops",
        "layers",
        "costs",
        "scores",
        "latency",
        "json",
        "no_json",
    ),
    "no_export",
)


def _register_choice(app: Dash, shelf: RunShelf) -> None:
    @app.callback(
        output={
            "selection": Output(ids.SELECTION, "data", allow_duplicate=True),
            "compared": Output(ids.COMPARE, "value", allow_duplicate=True),
            "front": Output(ids.FRONT, "clickData"),
            "other": Output(ids.OTHER, "clickData"),
            "unticked": Output(ids.PLANS, "deselectAll"),
        },
        inputs={
            "given": {
                ids.FRONT: Input(ids.FRONT, "clickData"),
                ids.OTHER: Input(ids.OTHER, "clickData"),
                ids.PLANS: Input(ids.PLANS, "selectedRows"),
                ids.COMPARE: Input(ids.COMPARE, "value"),
                ids.SHOW_ANSWER: Input(ids.SHOW_ANSWER, "n_clicks"),
                ids.ANSWERED: State(ids.ANSWERED, "data"),
            },
            "selection": State(ids.SELECTION, "data"),
            "options": State(ids.COMPARE, "options"),
        },
    )
    def choose(
        given: dict[str, Any], selection: Selection | None, options: list[Any] | None
    ) -> dict[str, Any]:
        source = str(ctx.triggered_id)
        chosen = chosen_plans(source, given, selection)
        same = dict.fromkeys(("selection", "compared", "front", "other", "unticked"), no_update)
        clear = {"front": None, "other": None} if source in (ids.FRONT, ids.OTHER) else {}
        if not chosen or chosen == selection:
            return same | clear
        offered = {option["value"] for option in options or ()}
        keys = [key_of(*each) for each in chosen[1:]]
        second = keys[0] if offered.issuperset(keys) and keys else None
        unticked = {} if source == ids.PLANS else {"unticked": True}
        return same | clear | unticked | {"selection": chosen, "compared": second}

    @app.callback(
        Output(ids.COMPARE, "options"),
        Input(ids.REVISIONS, "data"),
        Input(ids.FRONT_SEEN, "data"),
        State(ids.COMPARE, "options"),
    )
    def offer_second(revisions: Revisions | None, _seen: Any, known: list[Any] | None) -> Any:
        options = second_choices(points_of(shelf, revisions))
        return no_update if options == known else options


def chosen_plans(
    source: str, given: Mapping[str, Any], selection: Selection | None
) -> Selection | None:
    """Return the plans that a visitor chose; `None` if that was no choice.

    Args:
        source: Id of what was touched.
        given: What each element is at.
        selection: What was chosen before.
    """
    touched = given.get(source)
    if source in (ids.FRONT, ids.OTHER):
        data = touched and touched["points"][0].get("customdata")
        return [list(data)] if data else None
    if source == ids.PLANS:
        return [plan_of(row["key"]) for row in touched[-2:]] if touched else None
    if source == ids.COMPARE and selection:
        second = plan_of(touched) if touched else selection[0]
        return selection[:1] if second == selection[0] else [selection[0], second]
    if source == ids.SHOW_ANSWER:
        answered = given[ids.ANSWERED] or {}
        return [[answered["run"], answered["best"]]] if answered.get("best") else None
    return None


def second_choices(points: Sequence[FrontPoints]) -> list[dict[str, str]]:
    """Return what may be compared with the chosen plan: the fronts and the baselines."""
    return [
        {
            "label": f"{each.name}: " * (len(points) > 1) + f"{plan_id} – {what}",
            "value": key_of(each.name, plan_id),
        }
        for each in points
        for plan_id, what in described_plans(each)
    ]


def difference_of(shelf: RunShelf, selection: Selection) -> PlanDifference:
    """Return how two plans differ.

    Raises:
        InputError: If one is gone, or they cannot be compared.
    """
    (first, first_id), (second, second_id) = selection[:2]

    def question(run: Run, other: Run) -> PlanDifference:
        return plan_difference(run.plan(first_id), other.plan(second_id))

    return shelf.ask(question, first, second)


def told(found: PlanDetails, run: str, theme: Theme) -> dict[str, Any]:
    """Return what the page tells of a plan, element by element.

    Args:
        found: What is known of it.
        run: Name of its run.
        theme: Light or dark.
    """
    speed: list[Any] = [html.P(found.predicted)]
    if found.exports:
        speed.append(table(SPEED_HEADS, speed_rows(found.exports)))
    else:
        speed.append(html.P("No export of it lies beside the run, so that none was measured."))
    layers = None
    if found.layers is not None:
        layers = _strips(ids.LAYERS, layer_figure(found.layers, theme))
    return {
        "title": " · ".join([f"Plan {found.plan_id}", run, *found.roles]),
        "drops": found.drops,
        "layers": layers,
        "costs": table(["", "amount", "of dense"], found.costs),
        "scores": table(SCORE_HEADS, found.scores),
        "latency": speed,
        "json": found.json,
        "no_json": not found.is_whole,
        "no_export": False,
    }


def _strips(name: str, figure: go.Figure) -> dcc.Graph:
    return picture_in_place(name, figure, figure.layout.height)


def _theme(name: str | None) -> Theme:
    return "dark" if name == "dark" else "light"
