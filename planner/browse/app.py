"""The page as an application: its layout, what happens on it, and who may ask it."""

from dataclasses import replace
from pathlib import Path

from dash import Dash, Input, Output

from planner.browse import ids
from planner.browse.callbacks import (
    budget_callbacks,
    export_callbacks,
    front_callbacks,
    plan_callbacks,
    run_callbacks,
    table_callbacks,
)
from planner.browse.callbacks.in_browser import in_browser
from planner.browse.exporting.export_desk import ExportDesk
from planner.browse.page import page_layout
from planner.browse.requests.request_check import check_requests
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.run_shelf import RunShelf


def make_app(shelf: RunShelf, guard: RequestGuard) -> Dash:
    """Return the application over the runs of a folder.

    Args:
        shelf: The runs.
        guard: Who may ask for what.
    """
    app = Dash(
        __name__,
        title="Compression planner",
        update_title="",
        serve_locally=True,
        add_log_handler=False,
        enable_mcp=False,
        compress=False,
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.layout = page_layout(shelf.folder.name)
    run_callbacks.register(app, shelf)
    budget_callbacks.register(app, shelf)
    front_callbacks.register(app, shelf)
    plan_callbacks.register(app, shelf)
    table_callbacks.register(app, shelf)
    export_callbacks.register(app, ExportDesk(shelf))
    _register_look(app)
    guarded = replace(guard, script_hashes=tuple(app.csp_hashes()))
    guarded.protect(app.server)
    check_requests(app)
    return app


def opened_app(folder: Path, guard: RequestGuard) -> tuple[Dash, RunShelf]:
    """Return the application over a folder, and its runs, which whoever opens them closes.

    Raises:
        RunError: If there is no such folder.
    """
    shelf = RunShelf(folder.resolve())
    shelf.warm_up()
    return make_app(shelf, guard), shelf


def _register_look(app: Dash) -> None:
    """Let the browser choose the theme, and keep the address up to date."""
    theme = Output(ids.THEME_NOW, "data"), Input(ids.THEME, "value")
    in_browser(app, "theme", *theme, is_asked_first=True)
    in_browser(app, "look", Output(ids.LOOKED, "data"), Input(ids.SHOW_ANSWER, "n_clicks"))
    in_browser(
        app,
        "address",
        Output(ids.ADDRESS, "data"),
        Input(ids.RUNS, "value"),
        Input(ids.BUDGET, "value"),
        Input(ids.SELECTION, "data"),
        *(Input(name, "value") for name in front_callbacks.PICKERS),
    )
