"""The page as an application: its layout, what happens on it, and who may ask it."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dash import Dash, Input, Output, State, html
from flask import request

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
from planner.browse.first_look import THEME_COOKIE, ThemeChoice, first_look
from planner.browse.page import page_layout
from planner.browse.quick_dash import QuickDash
from planner.browse.requests.request_check import check_requests
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.run_shelf import RunShelf

logger = logging.getLogger(__name__)


def make_app(shelf: RunShelf, guard: RequestGuard) -> Dash:
    """Return the application over the runs of a folder.

    Args:
        shelf: The runs.
        guard: Who may ask for what.
    """
    app: Any = QuickDash(  # some of its attributes have types that are too narrow
        __name__,
        title="Compression planner",
        update_title="",
        serve_locally=True,
        add_log_handler=False,
        enable_mcp=False,
        compress=False,
        prevent_initial_callbacks=True,  # what is looked at first is on the page from the start
    )
    app.index_string = app.index_string.replace("<html>", '<html lang="en">')
    app.validation_layout = page_layout(shelf.folder.name)
    app.layout = partial(_page, shelf)
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
    made: Dash = app
    return made


def opened_app(folder: Path, guard: RequestGuard) -> tuple[Dash, RunShelf]:
    """Return the application over a folder, and its runs, which whoever opens them closes.

    Raises:
        RunError: If there is no such folder.
    """
    shelf = RunShelf(folder.resolve())
    app = make_app(shelf, guard)
    shelf.entries()
    with app.server.test_request_context():
        _page(shelf)  # a large run takes a second to read: no visitor waits for that
    return app, shelf


def _page(shelf: RunShelf) -> html.Div:
    """Return the page as it is asked for; if that fails, one whose parts are drawn one by one."""
    address = request.query_string.decode(errors="replace")
    try:
        return first_look(shelf, address, ThemeChoice.of(request.cookies.get(THEME_COOKIE)))
    except Exception:  # of one part, which must not take the others down
        logger.exception("the page could not be laid out for %r", address)
        return page_layout(shelf.folder.name)


def _register_look(app: Dash) -> None:
    """Let the browser choose the theme, and keep the address up to date."""
    theme = Output(ids.THEME_NOW, "data"), Input(ids.THEME, "value"), State(ids.THEME_NOW, "data")
    in_browser(app, "theme", *theme, is_asked_first=True)
    in_browser(app, "look", Output(ids.LOOKED, "data"), Input(ids.SHOW_ANSWER, "n_clicks"))
    in_browser(
        app,
        "address",
        Output(ids.ADDRESS, "data"),
        Input(ids.RUNS, "value"),
        Input(ids.BUDGET, "value"),
        Input(ids.SELECTION, "data"),
        Input(ids.FRONT_SEEN, "data"),
        *(Input(name, "value") for name in front_callbacks.PICKERS),
    )
