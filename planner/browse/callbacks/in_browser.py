"""Callbacks that the browser answers by itself, by functions of ``assets/browse.js``."""

from typing import Any

from dash import ClientsideFunction, Dash
from dash.dependencies import DashDependency


def in_browser(
    app: Dash, function: str, *dependencies: DashDependency, is_asked_first: bool = False
) -> None:
    """Add a callback.

    Args:
        app: The page.
        function: Name of the function.
        dependencies: Its outputs, inputs and states.
        is_asked_first: Whether it is asked as soon as the page is there.
    """
    add: Any = app.clientside_callback  # which has no types
    called = ClientsideFunction("browse", function)
    add(called, *dependencies, prevent_initial_call=not is_asked_first)
