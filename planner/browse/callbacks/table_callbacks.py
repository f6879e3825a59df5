"""The table of plans: rows follow the runs and the brush; filters and order are the visitor's."""

from typing import Any

from dash import Dash, Input, Output, State, no_update

from planner.browse import ids
from planner.browse.brush import Brush
from planner.browse.callbacks.run_callbacks import Revisions, points_of
from planner.browse.plan_rows import table_columns, table_rows
from planner.browse.run_shelf import RunShelf


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""

    @app.callback(
        Output(ids.PLANS, "columnDefs"),
        Output(ids.PLANS, "rowData"),
        Output(ids.PLAN_COUNT, "children"),
        Input(ids.REVISIONS, "data"),
        Input(ids.SHOWN_PLANS, "value"),
        Input(ids.BRUSH, "data"),
        State(ids.PLANS, "columnDefs"),
    )
    def fill(
        revisions: Revisions | None,
        shown: str,
        brush: dict[str, Any] | None,
        known: list[dict[str, Any]] | None,
    ) -> tuple[Any, list[dict[str, Any]], str]:
        points = points_of(shelf, revisions)
        columns = table_columns(points)
        outline = Brush.of(brush)
        brushed = outline.plans(points) if outline else None
        rows = table_rows(points, shows_all=shown == "all", brushed=brushed)
        total = sum(len(each.frame) for each in points)
        # new columns would reset the filters
        return no_update if columns == known else columns, rows, f"{len(rows):,} of {total:,}"

    @app.callback(
        Output(ids.PLANS, "exportDataAsCsv"),
        Input(ids.CSV, "n_clicks"),
        prevent_initial_call=True,
    )
    def download(_clicks: int) -> bool:
        return True
