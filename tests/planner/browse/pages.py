"""The page as a browser uses it: one callback asked by its outputs."""

from collections.abc import Mapping
from typing import Any

from dash import Dash
from werkzeug.test import TestResponse

ASKED: dict[str, Any] = {
    "x": "params_x",
    "y": "kl",
    "colour": None,
    "dominated": ["shown"],
    "splits": ["search"],
    "theme": "light",
    "answered": None,
    "selection": None,
}
"""What the page is at when it opens."""


def ask(app: Dash, output: str, values: Mapping[str, Any], changed: str) -> dict[str, Any]:
    """Run a callback of the page as the browser asks for it.

    Args:
        app: The page.
        output: One of its outputs, ``id.property``.
        values: Of its inputs and states, ``id.property``; others are `None`.
        changed: The input that changed.

    Returns:
        The properties that it sets, by element; nothing if it sets none.
    """
    answer = post(app, output, values, changed)
    assert answer.status_code in (200, 204), answer.get_data(as_text=True)
    if answer.status_code == 204:
        return {}
    properties: dict[str, Any] = answer.get_json()["response"]
    return properties


def post(app: Dash, output: str, values: Mapping[str, Any], changed: str) -> TestResponse:
    """Send what `ask` asks, and return the answer whatever it is."""
    client = app.server.test_client()
    callback = next(
        each
        for each in client.get("/_dash-dependencies").get_json()
        if output in each["output"].strip(".").split("...") and not each["clientside_function"]
    )
    outputs = callback["output"].strip(".").split("...")
    body = {
        "output": callback["output"],
        "outputs": [_dependency(name) for name in outputs],
        "changedPropIds": [changed],
    }
    for kind in ("inputs", "state"):
        body[kind] = [
            {**each, "value": values.get(f"{each['id']}.{each['property']}")}
            for each in callback[kind]
        ]
    if len(outputs) == 1:
        body["outputs"] = _dependency(outputs[0])
    answer: TestResponse = client.post("/_dash-update-component", json=body)
    return answer


def _dependency(name: str) -> dict[str, str]:
    identity, _, rest = name.rpartition(".")
    return {"id": identity, "property": rest.partition("@")[0]}
