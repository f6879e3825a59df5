"""The table of plans: rows follow the runs and the brush; filters and order are the visitor's."""

from typing import Any

from dash import Dash, Input, Output, State, no_update

from planner.browse import ids
from planner.browse.brush import Brush
from planner.browse.callbacks.in_browser import in_browser
from planner.browse.callbacks.run_callbacks import Revisions, points_of
from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import PlanTable, table_columns
from planner.browse.table.row_request import RowRequest

_LISTED = {
    "revisions": (ids.REVISIONS, "data"),
    "shown": (ids.SHOWN_PLANS, "value"),
    "brush": (ids.BRUSH, "data"),
}
"""What says which plans the table lists."""


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""

    @app.callback(
        Output(ids.PLANS, "columnDefs"),
        Input(ids.REVISIONS, "data"),
        Input(ids.FRONT_SEEN, "data"),
        State(ids.PLANS, "columnDefs"),
    )
    def head(revisions: Revisions | None, _seen: Any, known: list[dict[str, Any]] | None) -> Any:
        columns = table_columns(points_of(shelf, revisions))
        # new columns would reset the filters
        return no_update if columns == known else columns

    listed = [Input(*place) for place in _LISTED.values()]
    asked = State(ids.PLANS, "getRowsRequest")
    in_browser(app, "refill", Output(ids.REFILLED, "data"), *listed, asked)

    @app.callback(
        output={
            "rows": Output(ids.PLANS, "getRowsResponse"),
            "count": Output(ids.PLAN_COUNT, "children"),
        },
        inputs={
            "asked": Input(ids.PLANS, "getRowsRequest"),
            "listed": {name: State(*place) for name, place in _LISTED.items()},
        },
    )
    def fill(asked: dict[str, Any] | None, listed: dict[str, Any]) -> dict[str, Any]:
        table, request = _table(shelf, listed), RowRequest.of(asked)
        found = table.found(request)
        return {
            "rows": {"rowData": table.rows(request.page(found)), "rowCount": len(found)},
            "count": f"{len(found):,} of {table.total:,}",
        }

    @app.callback(
        Output(ids.CSV_FILE, "data"),
        inputs={
            "_clicks": Input(ids.CSV, "n_clicks"),
            "asked": State(ids.PLANS, "getRowsRequest"),
            "listed": {name: State(*place) for name, place in _LISTED.items()},
        },
    )
    def download(
        _clicks: int, asked: dict[str, Any] | None, listed: dict[str, Any]
    ) -> dict[str, str]:
        table = _table(shelf, listed)
        text = table.csv(table.found(RowRequest.of(asked)))
        return {"content": text, "filename": "plans.csv", "type": "text/csv"}


def _table(shelf: RunShelf, listed: dict[str, Any]) -> PlanTable:
    points, outline = points_of(shelf, listed["revisions"]), Brush.of(listed["brush"])
    brushed = outline.inside(points) if outline else None
    return PlanTable(points, shows_all=listed["shown"] == "all", brushed=brushed)
