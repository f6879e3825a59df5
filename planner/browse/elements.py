"""What the page is built of: sections, fields with their labels, pictures."""

from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from planner.browse import ids

Words = dict[str, Any]
"""What is said of an element to who cannot see it, by the names that HTML has for it."""
_CONFIG: Any = {
    "displaylogo": False,
    "showSendToCloud": False,  # its button would upload the picture
    "plotlyServerURL": "",
    "responsive": True,
    "displayModeBar": True,
    # to name those that stay takes a nested list, which Plotly takes for another one each time: it
    # would then draw all plans again for a single mark
    "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "autoScale2d"],
}
_EMPTY: dict[str, Any] = {"data": [], "layout": {"xaxis": {}, "yaxis": {}}}


def section(title: str, children: list[Any], **details: Any) -> html.Section:
    """Return a part of the page under a heading."""
    return html.Section([html.H2(title), *children], **details)


def field(label: str, target: str, element: Any, kind: str = "") -> html.Div:
    """Return a control with its label.

    Args:
        label: What it is for.
        target: Id of the control.
        element: The control.
        kind: Name of a style.
    """
    words = html.Label(label, htmlFor=target)
    name = spoken(label)
    return html.Div([words, element], className=f"field {kind}".strip(), role="group", **name)


def spoken(label: str) -> Words:
    """Return the name of an element, as it is read out."""
    return {"aria-label": label}


def picker(label: str, name: str, *, clearable: bool = False) -> html.Div:
    """Return a chooser of one of few."""
    chooser = dcc.Dropdown(id=name, clearable=clearable, placeholder="none", searchable=False)
    return field(label, name, chooser, "picker")


def picture(name: str, label: str, height: int) -> html.Figure:
    """Return the place of a figure with buttons above it, to zoom and to brush.

    Args:
        name: Its id.
        label: What it shows, for who cannot see it.
        height: Pixels.
    """
    graph = dcc.Graph(id=name, figure=_EMPTY, config=_CONFIG, style=height_of(height))
    return html.Figure(graph, role="group", **spoken(label))


def picture_place(name: str, label: str) -> html.Figure:
    """Return the place of a figure that comes later: drawing none takes the browser a while."""
    return html.Figure(id=ids.place(name), role="group", **spoken(label))


def picture_in_place(name: str, figure: go.Figure, height: float) -> dcc.Graph:
    """Return a figure for its place; the arguments are those of `picture`."""
    figure.update_layout(height=None)
    config = _CONFIG | {"displayModeBar": False}
    return dcc.Graph(id=name, figure=figure, config=config, style=height_of(height))


def height_of(pixels: float) -> Words:
    """Return the height of a figure as a style; by its own layout, Plotly forgets it."""
    return {"height": f"{pixels:g}px"}


def action(label: str, name: Any, **details: Any) -> html.Button:
    """Return a button.

    Args:
        label: What it does.
        name: Its id.
        details: Such as ``disabled``.
    """
    return html.Button(label, id=name, type="button", className="action", **details)


def hint(text: str) -> html.P:
    """Return a line that says how something is used."""
    return html.P(text, className="faint")


def table(head: list[str], rows: list[list[Any]]) -> html.Table:
    """Return a small table; the first column names the rows."""
    cells = [
        html.Tr([html.Th(row[0], scope="row"), *(html.Td(cell) for cell in row[1:])])
        for row in rows
    ]
    heads = html.Tr([html.Th(text, scope="col") for text in head])
    return html.Table([html.Thead(heads), html.Tbody(cells)])
