"""The parts of the page that are about plans one by one: their table, one of them, its export."""

from typing import get_args

import dash_ag_grid as dag
from dash import dcc, html

from planner.browse import ids
from planner.browse.elements import action, field, hint, picture_place, section
from planner.targets.gguf.gguf_types import GgufType
from planner.targets.target_names import TargetName

FORMATS: dict[TargetName, str] = {
    "hf": "transformers and vLLM (hf)",
    "gguf": "llama.cpp (gguf)",
    "onnx": "onnxruntime and OpenVINO (onnx)",
    "deci": "vLLM's DeciLM class (deci)",
}
"""What each target is for."""
_BLOCK = 100
"""Rows of the table that the browser asks for at a time."""


def table_part() -> html.Section:
    """Return the part: the table of plans."""
    shown = [
        {"label": " of the front", "value": "front"},
        {"label": " all that were scored", "value": "all"},
    ]
    grid = dag.AgGrid(
        id=ids.PLANS,
        columnDefs=[],
        rowModelType="infinite",
        getRowId="params.data.key",
        defaultColDef={
            "sortable": True,
            "resizable": True,
            "filter": "agNumberColumnFilter",
            "floatingFilter": True,
            "suppressHeaderMenuButton": True,
            "wrapHeaderText": True,
            "autoHeaderHeight": True,
            "width": 118,
        },
        dashGridOptions={
            "rowSelection": {
                "mode": "multiRow",
                "headerCheckbox": False,
                "enableClickSelection": True,
            },
            "selectionColumnDef": {"pinned": "left", "width": 44},
            "animateRows": False,
            "cacheBlockSize": _BLOCK,
            "maxConcurrentDatasourceRequests": 1,  # the component knows the last one alone
            "enableCellTextSelection": True,
            "ensureDomOrder": True,
        },
        style={"height": "420px"},
    )
    return section(
        "Table of plans",
        [
            html.Div(
                [
                    field(
                        "Plans",
                        ids.SHOWN_PLANS,
                        dcc.RadioItems(
                            id=ids.SHOWN_PLANS, options=shown, value="front", inline=True
                        ),
                        "inline",
                    ),
                    html.Span(id=ids.PLAN_COUNT, role="status", className="faint"),
                    action("Download as CSV", ids.CSV),
                ],
                className="row",
            ),
            grid,
            dcc.Download(id=ids.CSV_FILE),
            hint(
                "Tick a plan to look at it, two to compare them. The row below the headings "
                "filters, a heading sorts."
            ),
        ],
    )


def plan_part() -> html.Section:
    """Return the part: what is known of the chosen plan."""
    second = dcc.Dropdown(id=ids.COMPARE, placeholder="another plan")
    difference = "Difference of two plans, layer by layer"
    compared = [
        html.P(id=ids.VERDICT, className="answer", role="status"),
        picture_place(ids.DIFFERENCE, difference),
    ]
    measured = [
        html.Div([html.H4("What it costs"), html.Div(id=ids.COSTS)]),
        html.Div([html.H4("How well it does"), html.Div(id=ids.SCORES)]),
    ]
    return section(
        "The plan",
        [
            html.H3("No plan is chosen yet", id=ids.PLAN_TITLE),
            html.P(id=ids.DROPS),
            picture_place(ids.LAYERS, "What the plan keeps of each layer"),
            html.Div(measured, className="halves"),
            html.H4("How fast it is"),
            html.Div(id=ids.LATENCY),
            html.H4("Beside another plan"),
            field("Compare with", ids.COMPARE, second),
            html.Div(compared, id=ids.COMPARISON, hidden=True),
            _json_part(),
        ],
        id=ids.PLAN,
    )


def _json_part() -> html.Details:
    buttons = [
        dcc.Clipboard(id=ids.COPY_JSON, target_id=ids.PLAN_JSON, title="Copy"),
        action("Download", ids.DOWNLOAD_JSON),
        dcc.Download(id=ids.JSON_FILE),
    ]
    return html.Details(
        [
            html.Summary("The plan as JSON"),
            html.Div(buttons, className="row"),
            html.Pre(id=ids.PLAN_JSON, tabIndex="0"),
        ]
    )


def export_part() -> html.Section:
    """Return the part: exporting it, and what became of all exports."""
    formats = [{"label": FORMATS[name], "value": name} for name in get_args(TargetName)]
    types = [{"label": name, "value": name} for name in get_args(GgufType)]
    target = dcc.Dropdown(id=ids.EXPORT_FORMAT, options=formats, value="hf", clearable=False)
    kind = dcc.Dropdown(id=ids.EXPORT_TYPE, options=types, placeholder="as in the model")
    out = dcc.Input(id=ids.EXPORT_FOLDER, type="text", debounce=True, spellCheck="false")
    kinds = field("Numbers of the file", ids.EXPORT_TYPE, kind)
    return section(
        "Export it",
        [
            field("For", ids.EXPORT_FORMAT, target),
            html.Div(kinds, id=ids.EXPORT_TYPE_FIELD, hidden=True),
            field("New folder", ids.EXPORT_FOLDER, out),
            action("Export this plan", ids.EXPORT_START, disabled=True),
            html.P(id=ids.EXPORT_REPLY, role="alert"),
            html.Div(id=ids.EXPORTS),
        ],
    )
