"""What the page does when something on it changes."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dash import Dash

from planner.browse import ids
from planner.browse.address import Address
from planner.browse.app import make_app
from planner.browse.callbacks.budget_callbacks import answers, slider_states, text_of_sliders
from planner.browse.callbacks.front_callbacks import PICKERS
from planner.browse.callbacks.plan_callbacks import chosen_plans
from planner.browse.callbacks.run_callbacks import points_of, run_choices, state_line
from planner.browse.drawing import drawing
from planner.browse.page import SLIDERS
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import PlanTable, key_of, plan_of
from planner.browse.table.row_request import RowRequest
from planner.run import Run
from search_spaces.errors import BudgetError
from tests.planner.browse.pages import ASKED, ask
from tests.settings import BUDGET

DENSE, SMALLEST = {"params": 1000.0, "size": 4000.0}, {"params": 100.0, "size": 400.0}


@pytest.fixture
def revisions(shelf: RunShelf) -> list[Any]:
    return [[name, shelf.look(name).revision] for name in ("first", "inner/second")]


def test_the_page_opens_and_holds_nothing_foreign(app: Dash) -> None:
    client = app.server.test_client()
    text = client.get("/").get_data(as_text=True)
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert 'src="https://' not in text
    layout = client.get("/_dash-layout").get_json()
    found = json.dumps(layout)
    for name in (ids.BUDGET, ids.FRONT, ids.PLANS, ids.EXPORT_START, ids.THEME):
        assert f'"id": "{name}"' in found


def test_the_run_written_last_is_chosen_at_first(shelf: RunShelf) -> None:
    options, chosen, notice = run_choices(shelf, Address(), None, None)
    assert [option["value"] for option in options] == ["first", "inner/second"]
    assert chosen in (["first"], ["inner/second"])
    assert notice == ""
    wanted = run_choices(shelf, Address(runs=("inner/second", "gone")), options, None)
    assert wanted[1] == ["inner/second"]
    # a visitor's choice stays
    assert ask_nothing_new(run_choices(shelf, Address(runs=("first",)), options, ["inner/second"]))


def test_a_chosen_run_that_is_gone_stays_chosen(shelf: RunShelf) -> None:
    options, chosen, _ = run_choices(shelf, Address(), None, ["gone"])
    assert options[-1] == {"label": "gone – cannot be read", "value": "gone"}
    assert type(chosen).__name__ == "NoUpdate"


def ask_nothing_new(answer: tuple[Any, Any, str]) -> bool:
    return all(type(value).__name__ == "NoUpdate" for value in answer[:2])


def test_a_folder_without_runs_says_how_to_begin(tmp_path: Path) -> None:
    shelf = RunShelf(tmp_path)
    options, chosen, notice = run_choices(shelf, Address(), [], None)
    assert ask_nothing_new((options, chosen, notice))
    assert notice.startswith("No runs yet")
    assert f"--out {tmp_path}/NAME" in notice
    shelf.close()


def test_a_broken_run_is_offered_with_its_sentence(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "<script>")
    (tmp_path / "<script>" / "run.sqlite").write_bytes(b"broken")
    shelf = RunShelf(tmp_path)
    options, _, _ = run_choices(shelf, Address(), None, None)
    assert options[0]["label"] == "<script> – cannot be read"
    line = state_line(shelf.look("<script>"))
    assert "className='run-state fault'" in repr(line)
    shelf.close()


def test_a_budget_is_answered_by_each_run(shelf: RunShelf, revisions: list[Any]) -> None:
    answered, lines, fault = answers(shelf, BUDGET, revisions)
    with Run.open(shelf.folder / "first") as run:
        assert answered == {
            "budget": BUDGET,
            "run": "first",
            "best": run.best(BUDGET).plan_id,
        }
    assert [line.children.partition(":")[0] for line in lines] == ["first", "inner/second"]
    assert fault == ""


@pytest.mark.parametrize("text", ["params<0.5x", "parms<=0.5x", "params<=50%", "params<=0.001x"])
def test_a_budget_that_is_none_gets_the_sentence_of_the_command_line(
    shelf: RunShelf, revisions: list[Any], text: str
) -> None:
    answered, _, fault = answers(shelf, text, revisions[:1])
    with Run.open(shelf.folder / "first") as run, pytest.raises(BudgetError) as caught:
        run.best(text)
    assert fault == str(caught.value)
    assert answered["best"] is None


def test_no_budget_asks_for_one(shelf: RunShelf, revisions: list[Any]) -> None:
    answered, words, fault = answers(shelf, "  ", revisions)
    assert answered == {"budget": None, "run": "first", "best": None}
    assert words
    assert not fault


def test_sliders_write_what_the_box_says() -> None:
    assert text_of_sliders("", {"params": 70, "size": 100}, DENSE) == "params<=0.7x"
    text = text_of_sliders("params<=0.7x,kl<=0.1", {"params": 60, "size": 50}, DENSE)
    assert text == "params<=0.6x,kl<=0.1,size<=0.5x"
    assert text_of_sliders("params<=0.7x", {"params": 100}, DENSE) == ""
    # one that nobody moved keeps what was typed, in its own unit
    assert text_of_sliders("size<=2KB,params<=1x", {"size": 50, "params": 100}, DENSE) == (
        "size<=2kB,params<=1x"
    )
    assert text_of_sliders("nonsense", {"params": 50}, DENSE) == "params<=0.5x"


def test_sliders_follow_the_box() -> None:
    states = slider_states("size<=1kB,kl<=1", DENSE, SMALLEST)
    by_name = {name: dict(zip(states, row, strict=True)) for name, row in _by_slider(states)}
    assert by_name["size"]["values"] == 25
    assert by_name["size"]["least"] == 10
    assert by_name["size"]["labels"] == "weights on disk: at most 25% (1.0 kB)"
    assert by_name["params"]["values"] == 100
    assert by_name["params"]["labels"] == "parameters: any"
    assert by_name["params"]["hidden"] is False
    assert by_name["macs"]["hidden"] is True  # not measured


def _by_slider(states: dict[str, list[Any]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    return zip(SLIDERS, zip(*states.values(), strict=True), strict=True)


def test_a_budget_sends_marks_and_no_plans_again(shelf: RunShelf, revisions: list[Any]) -> None:
    points = points_of(shelf, revisions[:1])
    best, other = points[0].frame["plan_id"].iloc[:2]
    answered = {"budget": "params<=0.5x", "run": "first", "best": best}
    asked = ASKED | {"revisions": revisions[:1], "answered": answered}
    figure, drawn = drawing(points, asked, None, None)
    ids_drawn = {c[1] for t in figure.data if t.customdata is not None for c in t.customdata}
    assert ids_drawn >= set(points[0].frame.loc[points[0].frame["failure"] == "", "plan_id"])
    answered = {"budget": "params<=0.7x", "run": "first", "best": other}
    patch, same = drawing(points, asked | {"answered": answered}, drawn, None)
    assert type(same).__name__ == "NoUpdate"
    changes = {tuple(each["location"]): each["params"] for each in patch._operations}
    assert [*changes] == [("layout", "shapes")]
    marks = [mark["name"] for mark in changes["layout", "shapes"]["value"]]
    assert marks == ["within the budget", "knee", "best within the budget"]
    # what is drawn from other things is drawn anew
    changes_of_view: list[dict[str, Any]] = [
        {"x": "size"},
        {"dominated": []},
        {"theme": "dark"},
        {"splits": []},
        {"answered": None},  # the legend names other marks
    ]
    for change in changes_of_view:
        assert drawing(points, asked | change, drawn, None)[1] != drawn


def test_a_brush_marks_its_plans_alone(shelf: RunShelf, revisions: list[Any]) -> None:
    points = points_of(shelf, revisions[:1])
    is_inside = np.isin(np.arange(len(points[0].frame)), [0, 3])
    chosen = points[0].frame["plan_id"][is_inside].tolist()
    inside = {"first": is_inside}
    figure, _ = drawing(points, ASKED | {"revisions": revisions[:1]}, None, inside)
    marked = {
        trace.customdata[place][1]
        for trace in figure.data
        if trace.customdata is not None
        for place in trace.selectedpoints
    }
    assert marked == set(chosen)


def test_a_row_says_which_plan_it_is() -> None:
    assert plan_of(key_of("a/b", "c1")) == ["a/b", "c1"]


def test_filters_survive_what_lands(app: Dash, revisions: list[Any]) -> None:
    values: dict[str, Any] = {"revisions.data": revisions}
    first = ask(app, "plans.columnDefs", values, "revisions.data")
    columns = first["plans"]["columnDefs"]
    again = ask(app, "plans.columnDefs", values | {"plans.columnDefs": columns}, "revisions.data")
    assert again == {}


def test_plans_are_chosen_by_click_tick_answer_and_name() -> None:
    click = {"points": [{"customdata": ["r", "a"]}]}
    ticked = [{"key": key_of("r", name)} for name in "abc"]
    answered = {"run": "r", "best": "z", "budget": "x"}
    assert chosen_plans(ids.FRONT, {ids.FRONT: click}, None) == [["r", "a"]]
    assert chosen_plans(ids.FRONT, {ids.FRONT: {"points": [{}]}}, None) is None  # the dense model
    assert chosen_plans(ids.PLANS, {ids.PLANS: ticked}, None) == [["r", "b"], ["r", "c"]]
    assert chosen_plans(ids.PLANS, {ids.PLANS: []}, [["r", "a"]]) is None
    given = {ids.ANSWERED: answered, ids.SHOW_ANSWER: 1}
    assert chosen_plans(ids.SHOW_ANSWER, given, None) == [["r", "z"]]
    given = {ids.COMPARE: key_of("r", "b")}
    assert chosen_plans(ids.COMPARE, given, [["r", "a"]]) == [["r", "a"], ["r", "b"]]
    assert chosen_plans(ids.COMPARE, {ids.COMPARE: None}, [["r", "a"], ["r", "b"]]) == [["r", "a"]]


def test_a_plan_is_told_in_whole(app: Dash, shelf: RunShelf, revisions: list[Any]) -> None:
    plan_id = shelf.ask(lambda run: run.front_plans()[0].plan_id, "first")
    values = {
        "selection.data": [["first", plan_id]],
        "revisions.data": revisions,
        "theme-now.data": "light",
    }
    told = ask(app, "plan-title.children", values, "selection.data")
    assert told["plan-title"]["children"].startswith(f"Plan {plan_id} · first")
    assert json.loads(told["plan-json"]["children"])["sites"]
    assert told["export-start"]["disabled"] is False
    assert told["layers-place"]["children"]["props"]["figure"]["data"]
    assert "It drops" in told["drops"]["children"]
    again = ask(
        app,
        "plan-title.children",
        values | {"plan-shown.data": told["plan-shown"]["data"]},
        "revisions.data",
    )
    assert again == {}
    missing = values | {"selection.data": [["first", "<script>"]]}
    told = ask(app, "plan-title.children", missing, "selection.data")
    assert "must be named by its id" in told["plan-title"]["children"]
    assert told["export-start"]["disabled"] is True


def test_two_plans_are_compared(app: Dash, shelf: RunShelf) -> None:
    plans = shelf.ask(lambda run: [p.plan_id for p in run.front_plans()], "first")
    chosen = [["first", plans[0]], ["inner/second", plans[-1]]]
    values = {"selection.data": chosen, "theme-now.data": "dark"}
    told = ask(app, "verdict.children", values, "selection.data")
    assert told["comparison"]["hidden"] is False
    assert "than" in told["verdict"]["children"]
    assert told["difference-place"]["children"]["props"]["figure"]["data"]
    one = ask(app, "verdict.children", values | {"selection.data": chosen[:1]}, "selection.data")
    assert one["comparison"]["hidden"] is True


def test_the_address_opens_the_page_where_it_was(app: Dash, revisions: list[Any]) -> None:
    search = "?run=first&x=size&y=agreement&budget=size%3C%3D0.9x&plan=a&plan=b@c/d@e"
    told = ask(
        app, "x.value", {"revisions.data": revisions, "url.search": search}, "revisions.data"
    )
    assert told["x"]["value"] == "size"
    assert told["y"]["value"] == "agreement"
    address = Address.of(search, PICKERS)
    assert (address.runs, address.budget) == (("first",), "size<=0.9x")
    assert address.plans == (("a", None), ("b", "c/d@e"))
    assert Address.of(None) == Address()


def test_two_browsers_do_not_disturb_each_other(shelf: RunShelf) -> None:
    pages = [make_app(shelf, RequestGuard()) for _ in range(2)]
    for page, name in zip(pages, ("first", "inner/second"), strict=True):
        told = ask(page, "revisions.data", {"runs.value": [name]}, "runs.value")
        assert [run for run, _ in told["revisions"]["data"]] == [name]


def test_a_name_that_was_written_stays(app: Dash) -> None:
    values: dict[str, Any] = {"selection.data": [["first", "a1"]], "export-format.value": "hf"}
    told = ask(app, "export-folder.value", values, "selection.data")["export-folder"]
    assert told == {"value": "first-a1-hf", "placeholder": "first-a1-hf"}
    known = {f"export-folder.{name}": value for name, value in told.items()}
    values |= {"export-format.value": "gguf", "export-type.value": "Q8_0"}
    again = ask(app, "export-folder.value", values | known, "export-format.value")
    assert again["export-folder"]["value"] == "first-a1-Q8_0"
    known["export-folder.value"] = "mine"
    again = ask(app, "export-folder.value", values | known, "export-format.value")
    assert again["export-folder"] == {"placeholder": "first-a1-Q8_0"}


def test_a_search_that_scored_nothing_yet_is_waited_for(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as database, database:
        database.executescript(
            "delete from measurements; delete from evaluations;"
            "delete from meta where key in ('finished', 'spent', 'baselines');"
            "update status set state = 'searching', phase = 'scoring', share = 0.1,"
            " updated_at = '2026-01-01T00:00:00.000+00:00';"
        )
    shelf = RunShelf(tmp_path)
    look = shelf.look("run")
    line = repr(state_line(look))
    assert "searching" in line
    assert "scoring, 10%" in line
    assert "silent for" in line  # nobody searches there
    answered, words, fault = answers(shelf, BUDGET, [("run", look.revision)])
    assert (answered["best"], fault) == (None, "")
    assert "no plan is scored yet" in repr(words)
    assert look.points is not None
    assert drawing([look.points], ASKED | {"revisions": [["run", "0"]]}, None, None)[1]
    table = PlanTable([look.points], shows_all=True, brushed=None)
    assert table.rows(table.found(RowRequest())) == []
    shelf.close()


def test_a_damaged_search_is_not_waited_for(searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as database, database:
        database.executescript(
            "update measurements set value = -1; delete from meta where key = 'finished';"
            "update status set state = 'searching';"
        )
    shelf = RunShelf(tmp_path)
    look = shelf.look("run")
    assert look.is_damaged
    line = state_line(look)
    assert "className='run-state fault'" in repr(line)
    assert "is damaged" in repr(line)
    assert "no plan is scored yet" not in repr(line)
    shelf.close()


def test_commands_that_mend_are_shown(searched: Path, tmp_path: Path) -> None:
    """A sentence that speaks of the command beside it has one."""
    shutil.copytree(searched, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.sqlite")) as database, database:
        database.executescript("delete from meta where key not in ('schema_version');")
        database.executescript("update status set state = 'stopped';")
    shelf = RunShelf(tmp_path)
    look = shelf.look("run")
    assert "by the command beside this\nplanner search" in look.note
    assert look.note in state_line(look).children[-1]
    shelf.close()
