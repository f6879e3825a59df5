"""The name of every element of the page that a callback, a style or a test asks for."""

from typing import Any

# what the page is about
URL = "url"
ADDRESS = "address"
"""Store of nothing: the browser writes the address."""
PULSE = "pulse"
"""Beats every two seconds; all that follows a live run hangs on it."""
THEME = "theme"
"""Choice of ``auto``, ``light`` or ``dark``."""
THEME_NOW = "theme-now"
"""Store: the theme that is shown, ``light`` or ``dark``."""
RUNS = "runs"
"""Chooser of runs, several at once; the first is asked for answers."""
NOTICE = "notice"
"""What is wrong with the folder, or that there is nothing in it yet."""
RUN_STATES = "run-states"
"""A line a chosen run: its state, phase, share and time left."""
REVISIONS = "revisions"
"""Store: each chosen run with its revision; it changes only when a run did."""
HYPERVOLUME = "hypervolume"

# the question and its answer
BUDGET = "budget"
BUDGET_FAULT = "budget-fault"
"""The sentence of the command line on a budget that is none; empty otherwise."""
ANSWER = "answer"
"""The best plan within the budget, in a sentence."""
ANSWERED = "answered"
"""Store: the budget that was understood, and its best plan."""
BUDGET_RUN = "budget-run"
"""Store: the run that the budget and the sliders are for."""
SHOW_ANSWER = "show-answer"
LOOKED = "looked"
"""Store of nothing: the browser scrolls to the plan."""


def place(picture: str) -> str:
    """Return the id of where a picture is put once there is something to show."""
    return f"{picture}-place"


def slider(metric: str) -> str:
    """Return the id of the slider that limits a cost."""
    return f"slider-{metric}"


def slider_row(metric: str) -> str:
    """Return the id of what holds a slider with its label."""
    return f"slider-row-{metric}"


def slider_label(metric: str) -> str:
    """Return the id of a slider's label."""
    return f"slider-label-{metric}"


# pictures
FRONT = "front"
X, Y, COLOUR = "x", "y", "colour"
DOMINATED = "dominated"
"""Switch: whether dominated plans are drawn."""
SPLITS = "splits"
"""Which texts the front is drawn on."""
FRONT_DRAWN = "front-drawn"
"""Store: what the picture on the screen was drawn from."""
FRONT_SEEN = "front-seen"
"""Store: whether the first picture is on the screen, for which all else waits."""
OTHER = "other"
"""A second picture of the same plans, with axes of its own."""
OTHER_X, OTHER_Y = "other-x", "other-y"
OTHER_DRAWN = "other-drawn"
BRUSH = "brush"
"""Store: the box or lasso that was drawn last; none: there is no such."""
BRUSH_NOTE = "brush-note"
CLEAR_BRUSH = "clear-brush"

# the table
PLANS = "plans"
SHOWN_PLANS = "shown-plans"
"""Which plans the table lists: of the front, or all."""
PLAN_COUNT = "plan-count"
CSV = "csv"
CSV_FILE = "csv-file"
REFILLED = "refilled"
"""Store of nothing: the browser has the table ask for its rows again."""

# the chosen plan
SELECTION = "selection"
"""Store: up to two plans, each as its run and its id."""
PLAN = "plan"
PLAN_SHOWN = "plan-shown"
"""Store: what the panel on the screen was made from."""
PLAN_TITLE = "plan-title"
DROPS = "drops"
"""Which layers' parts the plan drops whole, in a sentence."""
LAYERS = "layers"
COSTS = "costs"
SCORES = "scores"
LATENCY = "latency"
PLAN_JSON = "plan-json"
COPY_JSON = "copy-json"
DOWNLOAD_JSON = "download-json"
JSON_FILE = "json-file"
COMPARE = "compare-with"
"""Chooser of a second plan."""
COMPARISON = "comparison"
VERDICT = "verdict"
DIFFERENCE = "difference"

# exports
EXPORT_FORMAT = "export-format"
EXPORT_TYPE = "export-type"
EXPORT_TYPE_FIELD = "export-type-field"
"""What holds the chooser of a type, which only GGUF files have."""
EXPORT_FOLDER = "export-folder"
EXPORT_START = "export-start"
EXPORT_REPLY = "export-reply"
"""Why an export did not begin, or that it did."""
EXPORTS = "exports"
"""Every export that was begun here, the youngest first."""
EXPORTS_SHOWN = "exports-shown"


def stop_export(job: Any) -> dict[str, Any]:
    """Return the id of the button that stops an export."""
    return {"type": "stop-export", "job": job}
