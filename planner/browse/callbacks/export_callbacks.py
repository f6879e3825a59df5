"""Exporting the chosen plan, and what became of all exports."""

from pathlib import PurePosixPath
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, html, no_update

from planner.browse import ids
from planner.browse.callbacks.budget_callbacks import Selection
from planner.browse.elements import Words, action, spoken, table
from planner.browse.exporting.export_desk import ExportDesk, ExportOrder
from planner.browse.exporting.export_record import IN_WORDS, ExportProgress
from planner.browse.exporting.measured_rows import proof_rows
from search_spaces.atomic_files import LONGEST_NAME
from search_spaces.errors import InputError, in_words

_ROOM_FOR_NUMBER = 3
"""Bytes of what is added to a name that is taken."""


def register(app: Dash, desk: ExportDesk) -> None:
    """Add the callbacks."""
    _register_order(app, desk)

    @app.callback(
        Output(ids.EXPORTS, "children"),
        Output(ids.EXPORTS_SHOWN, "data"),
        Input(ids.PULSE, "n_intervals"),
        Input(ids.EXPORT_REPLY, "children"),
        Input(ids.stop_export(ALL), "n_clicks"),
        Input(ids.FRONT_SEEN, "data"),
        State(ids.EXPORTS_SHOWN, "data"),
    )
    def show(
        _beat: int, _reply: Any, _stops: list[int], _seen: Any, shown: list[Any] | None
    ) -> Any:
        pressed = ctx.triggered_id
        if isinstance(pressed, dict) and ctx.triggered[0]["value"]:
            desk.stop(str(pressed["job"]))
        exports = desk.exports()
        state = [_state(export) for export in exports]
        if state == shown:
            return no_update, no_update
        return [export_card(export) for export in exports], state


def _register_order(app: Dash, desk: ExportDesk) -> None:
    @app.callback(
        Output(ids.EXPORT_FOLDER, "value"),
        Output(ids.EXPORT_FOLDER, "placeholder"),
        Input(ids.SELECTION, "data"),
        Input(ids.EXPORT_FORMAT, "value"),
        Input(ids.EXPORT_TYPE, "value"),
        Input(ids.FRONT_SEEN, "data"),
        State(ids.EXPORT_FOLDER, "value"),
        State(ids.EXPORT_FOLDER, "placeholder"),
    )
    def name(
        selection: Selection | None,
        target: str,
        gguf_type: str | None,
        _seen: Any,
        written: str | None,
        offered: str | None,
    ) -> tuple[Any, Any]:
        if not selection:
            return no_update, no_update
        suffix = gguf_type if target == "gguf" and gguf_type else target
        run, plan_id = selection[0]
        free = desk.free_name(folder_name(run, plan_id, suffix))
        is_visitors = bool(written) and written != offered  # and stays
        return no_update if is_visitors else free, free

    @app.callback(
        Output(ids.EXPORT_TYPE_FIELD, "hidden"),
        Input(ids.EXPORT_FORMAT, "value"),
    )
    def offer_types(target: str) -> bool:
        return target != "gguf"

    @app.callback(
        Output(ids.EXPORT_REPLY, "children"),
        Input(ids.EXPORT_START, "n_clicks"),
        State(ids.SELECTION, "data"),
        State(ids.EXPORT_FORMAT, "value"),
        State(ids.EXPORT_TYPE, "value"),
        State(ids.EXPORT_FOLDER, "value"),
    )
    def begin(
        _clicks: int,
        selection: Selection | None,
        target: str,
        gguf_type: str | None,
        out: str | None,
    ) -> str:
        if not selection:
            return "Choose a plan first."
        run, plan_id = selection[0]
        order = ExportOrder(
            run=run, plan_id=plan_id, format=target, gguf_type=gguf_type, out=out or ""
        )
        try:
            record = desk.begin(order)
        except InputError as error:
            return in_words(error)
        return f"Export {record.job} began; it goes on if this page is closed."


def folder_name(run: str, plan_id: str, suffix: str) -> str:
    """Return a name for the folder of an export: beside the run, which tells what is measured.

    Names of runs are as odd and long as the system takes them, and those of exports are not.

    >>> folder_name("small/run", "a1b2", "hf"), folder_name(".", "a1b2", "Q8_0")
    ('small/run-a1b2-hf', 'a1b2-Q8_0')
    >>> folder_name("~run", "a1b2", "hf")
    '_run-a1b2-hf'
    """
    place, name = PurePosixPath(run), f"{plan_id}-{suffix}"
    if run == ".":
        return name
    plain = "".join(sign if sign.isprintable() and sign != "\\" else "_" for sign in place.name)
    plain = f"_{plain[1:]}" if plain.startswith("~") else plain
    most = LONGEST_NAME - len(f"-{name}") - _ROOM_FOR_NUMBER
    kept = plain.encode()[:most].decode(errors="ignore")
    return str(place.parent / f"{kept}-{name}")


def _state(export: ExportProgress) -> list[Any]:
    minutes = round(export.minutes) if export.state == "running" else 0
    return [export.record.job, export.state, export.said, export.share, minutes]


def export_card(export: ExportProgress) -> html.Article:
    """Return what became of an export."""
    record = export.record
    kind = record.format + (f" {record.gguf_type}" if record.gguf_type else "")
    body: list[Any] = [
        html.Strong([f"{record.plan_id} as {kind} → ", html.Code(record.out)]),
        html.Div(IN_WORDS[export.state], className=f"state {export.state}"),
    ]
    if export.state == "running":
        share: Words = {} if export.share is None else {"value": export.share, "max": 100}
        body += [
            html.Progress(**share, **spoken(f"export of {record.plan_id}")),
            html.P(f"{export.said}, {export.minutes:.0f} min since it began"),
            action("Stop it", ids.stop_export(record.job)),
        ]
    elif export.said:
        body.append(html.P(export.said))
    if export.manifest is not None:
        body.append(table(["", "measured"], proof_rows(export.manifest)))
    job: Words = {"data-job": record.job}
    return html.Article(body, className="export", **job)
