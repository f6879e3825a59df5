from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.metric import Measurement
from planner.reports.sentences import front_sentence
from planner.reports.tables import answers_table, front_table
from planner.results.budgets import split_budgets
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.errors import BudgetError, RunError, SettingsError
from tests.problems.toy_search import DENSE, SETTINGS, evaluation

PLANS = [
    evaluation((3,) * 8),
    evaluation((1, 3) * 4),
    evaluation((0, 3) * 4),
    evaluation((0,) * 8),
]
HOLDOUT = {
    "kl": Measurement(value=7.5, standard_error=0.25),
    "nll": Measurement(value=3.0),
    "agreement": Measurement(value=0.5),
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run.create(tmp_path, SETTINGS) as made:
        for plan in PLANS:
            made.record(plan)
        made.record_rescore(PLANS[1].plan_id, "holdout", HOLDOUT)
        smallest = {name: 0.2 * value for name, value in DENSE.items()}
        names = ("size", "params")
        made.record_metadata(RunMetadata(dense=DENSE, smallest=smallest, cost_names=names))
        yield made


@pytest.mark.parametrize(
    ("text", "budgets"),
    [
        ("0.5x, 0.6x,", ["0.5x", "0.6x"]),
        ("size<=1kB", ["size<=1kB"]),
        ("0.5x;params<=0.7x,kl<=0.1", ["0.5x", "params<=0.7x,kl<=0.1"]),
        ("0.5x\uff0c0.6x", ["0.5x", "0.6x"]),
        ("0.5x\uff1bparams≤0.7x\uff0ckl<=0.1", ["0.5x", "params<=0.7x,kl<=0.1"]),
        ("params<=0.7x,kl<=0.1;", ["params<=0.7x,kl<=0.1"]),
    ],
)
def test_budgets_in_one_line(text: str, budgets: list[str]) -> None:
    assert split_budgets(text) == budgets
    assert split_budgets(text.replace(" ", "\n\u2028")) == budgets  # a row of a table each


@pytest.mark.parametrize("text", ["", " , ", " ; "])
def test_a_line_without_a_budget(text: str) -> None:
    with pytest.raises(BudgetError, match="must name one budget or more, got"):
        split_budgets(text)


def test_ten_budgets_are_answered_from_what_is_scored(run: Run) -> None:
    budgets = [f"{share}x" for share in (1.0, 0.95, 0.9, 0.87, 0.85, 0.8, 0.6, 0.4, 0.3, 0.2)]
    before = len(run.landed())
    frame = run.answers(budgets)
    assert list(frame["budget"])[:2] == ["size<=1.0x", "size<=0.95x"]
    assert list(frame["plan_id"]) == [run.best(f"size<={budget}").plan_id for budget in budgets]
    assert (frame["size_x"] <= [float(budget[:-1]) + 1e-9 for budget in budgets]).all()
    assert not frame["refusal"].any()
    assert len(run.landed()) == before


def test_an_answer_has_the_plan_its_costs_and_both_kl(run: Run) -> None:
    frame = run.answers(["0.9x", "kl<=100", "size<=200B,kl<=9", "params<=800"])
    assert list(frame["plan_id"]) == [PLANS[1].plan_id, PLANS[3].plan_id, "", PLANS[2].plan_id]
    first = frame.iloc[0]
    assert first["params"] == pytest.approx(PLANS[1].costs["params"])
    assert (first["kl"], first["kl_se"]) == pytest.approx((PLANS[1].values["kl"], 0.01))
    assert (first["holdout_kl"], first["holdout_kl_se"]) == (7.5, 0.25)
    assert frame["holdout_kl"].isna().tolist() == [False, True, True, True]
    assert frame.columns[-1] == "refusal"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("0.1x", "the smallest plan of this model has size 0.2x"),
        ("kl<=0.05,size<=0.5x", "the nearest reaches"),
        ("latency<=0.5x", "needs a run that measured latency"),
        ("parms<=0.5x", "did you mean `params`?"),
        ("half", "`size` takes 0.7x"),
    ],
)
def test_what_cannot_be_answered_is_a_sentence_beside_the_others(
    run: Run, budget: str, said: str
) -> None:
    frame = run.answers([budget, "0.9x"])
    assert said in frame["refusal"][0]
    assert list(frame["plan_id"]) == ["", PLANS[1].plan_id]
    header, refused, answered = answers_table(frame).plain.splitlines()
    assert "KL held-out" in header
    assert refused.startswith(frame["budget"][0])
    assert refused.endswith(f"none: {frame['refusal'][0]}")
    assert said not in answered
    assert "7.500 ± 0.250" in answered
    # a sentence alone, and nothing at all, can be shown too
    assert said in answers_table(run.answers([budget])).plain
    assert run.answers([]).empty
    assert answers_table(run.answers([])).plain.startswith("budget")


def test_a_run_that_has_not_begun_answers_nothing(tmp_path: Path) -> None:
    with (
        Run.create(tmp_path, SETTINGS) as empty,
        pytest.raises(RunError, match="that has begun to score"),
    ):
        empty.answers(["0.5x"])


def test_the_hypervolume_is_stated_with_its_reference(run: Run) -> None:
    worst = PLANS[3].values["kl"]
    sentence = front_sentence(run)
    assert "from KL 0 and no size and no params to KL" in sentence
    assert f"--reference {1.1 * worst:.4g}" in sentence
    volumes = [float(front_sentence(run, reference=r).split()[1]) for r in (0.1, 1.0, 1.1 * worst)]
    assert volumes[0] == 0  # no plan that cuts anything is so good
    assert 0 < volumes[1] < volumes[2] == float(sentence.split()[1])
    for reference in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="must be a KL above 0"):
            front_sentence(run, reference=reference)


def test_the_knee_is_marked_and_said(run: Run) -> None:
    bent = replace(evaluation((2, 1) * 4), costs=evaluation((0, 1) * 4).costs)
    run.record(bent)
    found = run.knee()
    assert found is not None
    assert found.plan_id == bent.plan_id
    assert f"knee: plan {bent.plan_id} at size 0." in front_sentence(run)
    lines = front_table(run.front(), marked=bent.plan_id, knee=bent.plan_id).plain.splitlines()
    assert [line.startswith("→ knee") for line in lines].count(True) == 1
    lines = front_table(run.front(), marked=PLANS[0].plan_id, knee=bent.plan_id).plain.splitlines()
    assert sorted(line.split()[0] for line in lines if bent.plan_id in line) == ["knee"]
    assert sum(line.startswith("→ ") for line in lines) == 1


def test_a_front_without_a_knee_says_so(run: Run, tmp_path: Path) -> None:
    with Run.create(tmp_path / "short", SETTINGS) as short:
        short.record_metadata(RunMetadata(dense=DENSE, cost_names=("params",)))
        short.record(PLANS[0])
        assert short.knee() is None
        assert "hypervolume 0.0000" in front_sentence(short)
        assert "knee: none" in front_sentence(short)
