"""The page: what stands where, under which name, before anything is known of a run."""

from dash import dcc, html

from evaluators.metric import METRICS
from planner.browse import ids
from planner.browse.elements import (
    Words,
    action,
    field,
    hint,
    picker,
    picture,
    picture_place,
    section,
    spoken,
)
from planner.browse.page_plans import export_part, plan_part, table_part
from planner.figures.figure_axes import SPLITS

SLIDERS = ("params", "size", "macs", "kv", "active", "latency")
"""Costs that have a slider where a run measured them."""
_BEAT_MS = 2000
_POLITE: Words = {"aria-live": "polite"}


def page_layout(folder: str) -> html.Div:
    """Return the page over a folder.

    Args:
        folder: Its name, as the page shows it.
    """
    stores = (
        ids.ADDRESS,
        ids.THEME_NOW,
        ids.REVISIONS,
        ids.BUDGET_RUN,
        ids.ANSWERED,
        ids.LOOKED,
        ids.FRONT_DRAWN,
        ids.FRONT_SEEN,
        ids.OTHER_DRAWN,
        ids.BRUSH,
        ids.REFILLED,
        ids.SELECTION,
        ids.PLAN_SHOWN,
    )
    return html.Div(
        [
            dcc.Location(id=ids.URL, refresh=False),
            dcc.Interval(id=ids.PULSE, interval=_BEAT_MS),
            *(dcc.Store(id=name) for name in stores),
            dcc.Store(id=ids.EXPORTS_SHOWN, data=[]),
            _header(folder),
            html.P(id=ids.NOTICE, className="notice", role="status"),
            html.Main(
                [
                    html.Div([_question(), export_part()], className="side"),
                    html.Div([_front(), plan_part(), table_part(), _more()], className="wide"),
                ]
            ),
        ],
        className="page",
    )


def _header(folder: str) -> html.Header:
    themes = [{"label": name, "value": name} for name in ("auto", "light", "dark")]
    theme = dcc.RadioItems(id=ids.THEME, options=themes, value="auto", inline=True)
    runs = dcc.Dropdown(id=ids.RUNS, multi=True, placeholder="Choose a run, or several")
    head = [
        html.H1("Compression planner"),
        field(f"Runs in {folder}", ids.RUNS, runs, "runs"),
        field("Theme", ids.THEME, theme, "theme"),
    ]
    return html.Header(
        [
            html.Div(head, className="title"),
            html.Div(id=ids.RUN_STATES, role="status", className="states"),
        ]
    )


def _question() -> html.Section:
    box = dcc.Input(
        id=ids.BUDGET,
        type="text",
        debounce=True,
        placeholder="for example size<=180MB,kl<=0.1",
        spellCheck="false",
        className="budget",
    )
    return section(
        "What may it cost?",
        [
            field("Budget", ids.BUDGET, box, "budget-field"),
            hint(
                "Limits on cost or quality, separated by commas, such as params<=0.7x, "
                "size<=180MB or kl<=0.1; Enter answers. The sliders write the same."
            ),
            html.P(id=ids.BUDGET_FAULT, className="fault", role="alert"),
            html.Div([_slider(name) for name in SLIDERS], className="sliders"),
            html.P(id=ids.ANSWER, className="answer", **_POLITE),
            action("Show this plan", ids.SHOW_ANSWER, hidden=True),
        ],
    )


def _slider(metric: str) -> html.Div:
    slider = dcc.Slider(
        id=ids.slider(metric),
        min=0,
        max=100,
        step=1,
        value=100,
        marks=None,
        allow_direct_input=False,
        updatemode="mouseup",
    )
    label = METRICS[metric].label
    return html.Div(
        [
            html.Label(label, id=ids.slider_label(metric), htmlFor=ids.slider(metric)),
            html.Div(slider, role="group", **spoken(f"at most, {label}")),
        ],
        id=ids.slider_row(metric),
        hidden=True,
    )


def _front() -> html.Section:
    texts = [{"label": f" {label}", "value": name} for name, label in SPLITS.items()]
    others = [{"label": " other plans", "value": "shown"}]
    chosen_texts = dcc.Checklist(id=ids.SPLITS, options=texts, value=list(SPLITS), inline=True)
    switch = dcc.Checklist(id=ids.DOMINATED, options=others, value=["shown"])
    axes = [
        picker("Across", ids.X),
        picker("Up", ids.Y),
        picker("Colour", ids.COLOUR, clearable=True),
    ]
    shown = [
        field("Front on", ids.SPLITS, chosen_texts, "inline"),
        field("Show", ids.DOMINATED, switch, "inline"),
    ]
    brushed = [
        html.Span(id=ids.BRUSH_NOTE, role="status"),
        action("Show all again", ids.CLEAR_BRUSH, hidden=True),
    ]
    return section(
        "Plans by cost and quality",
        [
            html.Div(axes, className="row"),
            html.Div(shown, className="row"),
            picture(ids.FRONT, "Plans by cost and quality; click one to look at it", 480),
            hint(
                "Click a plan to look at it. Draw a box or a lasso around some, with the buttons "
                "above the picture: the table and the other picture follow."
            ),
            html.Div(brushed, className="row"),
        ],
    )


def _more() -> html.Section:
    return section(
        "Other pictures",
        [
            html.Div([picker("Across", ids.OTHER_X), picker("Up", ids.OTHER_Y)], className="row"),
            picture(ids.OTHER, "The same plans along other axes", 380),
            html.H3("How the search came to it"),
            picture_place(ids.HYPERVOLUME, "Hypervolume of the front over time"),
        ],
    )
