"""The question: a budget, in a box and by sliders; and the answer to it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, State, ctx, html, no_update

from evaluators.metric import METRICS
from planner.browse import ids
from planner.browse.address import Address
from planner.browse.callbacks.run_callbacks import Revisions
from planner.browse.page import SLIDERS
from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import key_of
from planner.reports.answer import sentence_of
from planner.results.answers import answer_of, own_budget
from planner.run import Run
from planner.settings.budget import Budget, Limit
from search_spaces.errors import BudgetError, InputError, in_words

Selection = list[list[str]]
"""Up to two plans, each as its run and its id."""
_WHOLE = 100
"""Where a slider limits nothing: percent of the dense model's cost."""
_SAME = {
    **dict.fromkeys(("text", "known_run"), no_update),
    **dict.fromkeys(("values", "least", "labels", "hidden"), [no_update] * len(SLIDERS)),
}
"""A box and sliders that stay as they are."""


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""

    @app.callback(
        output={
            "text": Output(ids.BUDGET, "value"),
            "known_run": Output(ids.BUDGET_RUN, "data"),
            "values": [Output(ids.slider(name), "value") for name in SLIDERS],
            "least": [Output(ids.slider(name), "min") for name in SLIDERS],
            "labels": [Output(ids.slider_label(name), "children") for name in SLIDERS],
            "hidden": [Output(ids.slider_row(name), "hidden") for name in SLIDERS],
        },
        inputs={
            "text": Input(ids.BUDGET, "value"),
            "values": [Input(ids.slider(name), "value") for name in SLIDERS],
            "revisions": Input(ids.REVISIONS, "data"),
            "known_run": State(ids.BUDGET_RUN, "data"),
            "search": State(ids.URL, "search"),
        },
    )
    def keep_in_step(
        text: str | None,
        values: list[float],
        revisions: Revisions | None,
        known_run: str | None,
        search: str | None,
    ) -> dict[str, Any]:
        main, typed = main_run(revisions), text
        costs = _costs(shelf, main)
        if main is None or costs is None:
            return dict(_SAME)
        if known_run is None:
            text = text or first_text(shelf, main, Address.of(search))
        elif any(ctx.triggered_id == ids.slider(name) for name in SLIDERS):
            shares = dict(zip(SLIDERS, values, strict=True))
            text = text_of_sliders(text or "", shares, costs["dense"])
        elif known_run == main and (ctx.triggered_id == ids.REVISIONS or not _is_budget(text)):
            return dict(_SAME)
        states = slider_states(text or "", **costs)
        # an echo would take back what was typed since
        changed = no_update if text == typed else text
        return {"text": changed, "known_run": main, **states}

    _register_answer(app, shelf)


def _register_answer(app: Dash, shelf: RunShelf) -> None:
    @app.callback(
        output={
            "answered": Output(ids.ANSWERED, "data"),
            "words": Output(ids.ANSWER, "children"),
            "fault": Output(ids.BUDGET_FAULT, "children"),
            "hides_button": Output(ids.SHOW_ANSWER, "hidden"),
            "selection": Output(ids.SELECTION, "data"),
            "compared": Output(ids.COMPARE, "value"),
        },
        inputs={
            "text": Input(ids.BUDGET, "value"),
            "revisions": Input(ids.REVISIONS, "data"),
            "exports": Input(ids.EXPORTS_SHOWN, "data"),
            "known": State(ids.ANSWERED, "data"),
            "selection": State(ids.SELECTION, "data"),
            "search": State(ids.URL, "search"),
        },
    )
    def answer(
        text: str | None,
        revisions: Revisions | None,
        exports: Any,  # noqa: ARG001  (one that was measured is told of)
        known: dict[str, Any] | None,
        selection: Selection | None,
        search: str | None,
    ) -> dict[str, Any]:
        asked = Address.of(search).plans if selection is None else ()
        return answer_parts(answers(shelf, text or "", revisions), asked, known)


def answer_parts(
    found: tuple[dict[str, Any], Any, str],
    asked: Sequence[tuple[str, str | None]] = (),
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what the page shows of an answer.

    Args:
        found: As `answers` returns it.
        asked: Plans that the address asks for, as it says them.
        known: What was understood before.
    """
    answered, words, fault = found
    wanted = asked[:2] if answered["run"] else ()
    if not wanted and answered["best"] and answered != known:
        wanted = ((answered["best"], None),)
    chosen: Any = [[run or answered["run"], plan_id] for plan_id, run in wanted] or no_update
    return {
        "answered": no_update if answered == known else answered,
        "words": words,
        "fault": fault,
        "hides_button": answered["best"] is None,
        "selection": chosen,
        "compared": key_of(*chosen[1]) if len(wanted) > 1 else None if wanted else no_update,
    }


def main_run(revisions: Revisions | None) -> str | None:
    """Return the run that is asked for answers: the first that was chosen."""
    return revisions[0][0] if revisions else None


def answers(
    shelf: RunShelf, text: str, revisions: Revisions | None
) -> tuple[dict[str, Any], Any, str]:
    """Return what was understood of a budget, the answers of all chosen runs, and what is amiss.

    Returns:
        ``budget``, ``run`` and ``best``, its plan, of the main run; the answers as elements; and
        the sentence that the command line refuses the budget with, empty if it does not.
    """
    understood: dict[str, Any] = {"budget": None, "run": main_run(revisions), "best": None}
    if not text.strip():
        return understood, "Give a budget to get the best plan within it.", ""
    try:
        budget = Budget.parse(text)
    except BudgetError as error:
        return understood, "", str(error)
    understood["budget"] = text
    lines, faults = [], []

    def question(run: Run) -> tuple[str | None, str]:
        if not run.landed():
            return None, "no plan is scored yet"
        answer = answer_of(run, budget, run.front_plans())
        return answer.plan.plan_id, sentence_of(run, answer, shelf.folder)

    for name, _ in revisions or ():
        try:
            best, sentence = shelf.ask(question, name)
        except InputError as error:
            faults.append(_told(name, in_words(error), revisions))
            continue
        lines.append(html.Div(_told(name, sentence, revisions)))
        if name == understood["run"]:
            understood["best"] = best
    return understood, lines, " ".join(faults)


def _told(name: str, sentence: str, revisions: Revisions | None) -> str:
    return f"{name}: {sentence}" if len(revisions or ()) > 1 else sentence


def text_of_sliders(text: str, shares: Mapping[str, float], dense: Mapping[str, float]) -> str:
    """Return a budget with the limits that sliders set, the others as they were written.

    Args:
        text: The budget; one that cannot be understood is written anew.
        shares: Where each slider stands, in percent of the dense model's cost.
        dense: The dense model's costs.
    """
    limits = {limit.metric: limit for limit in _understood(text)}
    for name, share in shares.items():
        if name not in dense or round(share) == _percent(limits.get(name), dense):
            continue
        if share >= _WHOLE:
            limits.pop(name, None)
        else:
            limits[name] = Limit(metric=name, value=round(share) / 100, relative=True)
    return str(Budget(limits=tuple(limits.values())))


def slider_states(
    text: str, dense: Mapping[str, float], smallest: Mapping[str, float]
) -> dict[str, Any]:
    """Return what sliders show of a budget.

    Args:
        text: The budget.
        dense: The dense model's costs.
        smallest: Those of the smallest plan.
    """
    limits = {limit.metric: limit for limit in _understood(text)}
    places = [_percent(limits.get(name), dense) for name in SLIDERS]
    costs = [(name, dense.get(name, 0.0), smallest.get(name, 0.0)) for name in SLIDERS]
    least = [math.floor(_WHOLE * low / cost) if cost else 0 for _, cost, low in costs]
    return {
        "values": [max(place, low) for place, low in zip(places, least, strict=True)],
        "least": least,
        "labels": [_label(name, limits.get(name), dense) for name in SLIDERS],
        "hidden": [low >= cost for _, cost, low in costs],
    }


def _is_budget(text: str | None) -> bool:
    return not text or bool(_understood(text))


def _understood(text: str) -> Sequence[Limit]:
    try:
        return Budget.parse(text).limits
    except BudgetError:
        return ()


def _percent(limit: Limit | None, dense: Mapping[str, float]) -> int:
    """Return where the slider of a cost stands."""
    if limit is None or not dense.get(limit.metric):
        return _WHOLE
    return round(min(_WHOLE, _WHOLE * limit.share(dense)))


def _label(name: str, limit: Limit | None, dense: Mapping[str, float]) -> str:
    metric = METRICS[name]
    if limit is None or name not in dense:
        return f"{metric.label}: any"
    share = limit.share(dense)
    return f"{metric.label}: at most {share:.0%} ({metric.amount(share * dense[name])})"


def first_text(shelf: RunShelf, name: str, address: Address) -> str:
    """Return the budget that a page begins with: of its address, or else the run's own."""
    if address.budget is not None:
        return address.budget
    return shelf.ask(lambda run: str(own_budget(run) or ""), name)


def first_question(shelf: RunShelf, name: str | None, address: Address) -> dict[str, Any]:
    """Return the budget and the sliders that a page begins with; empty: nothing is known yet."""
    costs = _costs(shelf, name)
    if name is None or costs is None:
        return {}
    text = first_text(shelf, name, address)
    return {"text": text, "known_run": name, **slider_states(text, **costs)}


def _costs(shelf: RunShelf, name: str | None) -> dict[str, Any] | None:
    """Return the costs of the dense model and of the smallest plan; none: they are not known."""
    if name is None:
        return None
    try:
        return shelf.ask(lambda run: {"dense": run.dense, "smallest": run.smallest}, name)
    except (InputError, OSError):  # the run's own line says so
        return None
