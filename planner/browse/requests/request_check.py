"""What the page may ask its server: values of the kinds that its own scripts send.

What a browser stores for the page comes back as the browser likes. All else is refused before
anything works on it, so that an error inside the server is one of ours, and never hidden.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from dash import Dash
from dash.exceptions import DependencyException
from flask import Response, request
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from planner.browse import ids
from planner.browse.brush import Brush
from planner.browse.page import SLIDERS
from planner.browse.table.row_request import RowRequest
from planner.figures.figure_axes import Split
from search_spaces.errors import InputError, quoted

_ASKING = "/_dash-update-component"


class _Answered(BaseModel):
    budget: str | None
    run: str | None
    best: str | None


class _Point(BaseModel):
    customdata: tuple[str, str] | None = None


class _Click(BaseModel):
    points: list[_Point] = Field(min_length=1)


class _Row(BaseModel):
    key: str


class _Option(BaseModel):
    value: str


class _Place(BaseModel):
    id: str | dict[str, Any]
    property: str


class _Value(_Place):
    value: Any = None


class _Asked(BaseModel):
    output: str
    outputs: _Place | list[_Place]
    changed: list[str] = Field(alias="changedPropIds")
    inputs: list[_Value | list[_Value]] = []
    state: list[_Value | list[_Value]] = []

    @model_validator(mode="after")
    def _check_outputs(self) -> Self:
        given = self.outputs if isinstance(self.outputs, list) else [self.outputs]
        if len(given) != len(self.output.strip(".").split("...")):
            raise ValueError("each output must have its place")
        return self

    def values(self) -> Iterable[_Value]:
        for each in (*self.inputs, *self.state):
            yield from each if isinstance(each, list) else (each,)


_Pairs = list[tuple[str, str]]
_BY_PROPERTY: Mapping[str, Mapping[str, Any]] = {
    "data": {
        ids.REVISIONS: _Pairs,
        ids.SELECTION: _Pairs,
        ids.ANSWERED: _Answered,
        ids.BRUSH: Brush,
        ids.BUDGET_RUN: str,
        ids.FRONT_DRAWN: list[Any],
        ids.OTHER_DRAWN: list[Any],
    },
    "value": {
        ids.RUNS: list[str],
        ids.SPLITS: list[Split],
        **dict.fromkeys((ids.BUDGET, ids.COMPARE), str),
        **dict.fromkeys((ids.X, ids.Y, ids.COLOUR, ids.OTHER_X, ids.OTHER_Y), str),
        **dict.fromkeys((ids.EXPORT_FORMAT, ids.EXPORT_TYPE, ids.EXPORT_FOLDER), str),
        **dict.fromkeys(map(ids.slider, SLIDERS), float),
    },
    "clickData": {ids.FRONT: _Click, ids.OTHER: _Click},
    "selectedRows": {ids.PLANS: list[_Row]},
    "getRowsRequest": {ids.PLANS: RowRequest},
    "options": {ids.COMPARE: list[_Option]},
    "placeholder": {ids.EXPORT_FOLDER: str},
    "children": {ids.PLAN_JSON: str},
    "search": {ids.URL: str},
}
"""What a value may be, besides none; others are compared alone, or not read."""
_KINDS: Mapping[str, TypeAdapter[Any]] = {
    f"{name}.{part}": TypeAdapter(kind | None)
    for part, kinds in _BY_PROPERTY.items()
    for name, kind in kinds.items()
}
"""The same, by the element and its property."""


def check_requests(app: Dash) -> None:
    """Have a page refuse in a sentence what its own scripts never ask for."""

    def check() -> Response | None:
        if request.path != _ASKING or request.method != "POST":
            return None
        try:
            asked = _Asked.model_validate(request.get_json())
        except ValidationError as error:
            return _refusal(
                f"what the page asks for must be whole, got {error.error_count()} faults"
            )
        if asked.output not in app.callback_map:
            return _refusal(f"the page must ask for what it has, got {quoted(asked.output)}")
        for each in asked.values():
            name = f"{each.id}.{each.property}"
            try:
                if name in _KINDS:
                    _KINDS[name].validate_python(each.value)
            except ValidationError:
                return _refusal(
                    f"`{name}` must be as the page sends it, got {quoted(repr(each.value))}"
                )
        return None

    app.server.before_request(check)
    app.server.register_error_handler(InputError, lambda error: _refusal(str(error)))
    app.server.register_error_handler(DependencyException, lambda _error: _missing())


def _refusal(sentence: str) -> Response:
    return Response(f"{sentence}; open the page anew\n", status=400, mimetype="text/plain")


def _missing() -> Response:
    return Response("the page has no such part\n", status=404, mimetype="text/plain")
