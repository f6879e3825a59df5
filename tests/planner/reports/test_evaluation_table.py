"""An evaluation as text: every figure where it is looked for, and what several tasks say."""

import numpy as np
import pytest

from planner.evaluate.evaluation_results import (
    Evaluation,
    TaskResult,
    perplexity_result,
    task_results,
)
from planner.evaluate.task_scores import TaskScores
from planner.reports.evaluation_table import evaluation_text
from planner.settings.evaluate import EvaluateSettings


def scores(right: int, count: int = 100, metric: str = "acc") -> TaskScores:
    """So many right answers, the first ones."""
    values = np.array([1.0] * right + [0.0] * (count - right))
    return TaskScores(
        samples=[{"metrics": [metric]}] * count,
        values={metric: values},
        metrics={f"{metric},none": right / count},
        higher_is_better={metric: True},
        num_fewshot=0,
        version="1",
    )


def evaluation(tasks: dict[str, TaskResult], *, dense: str | None = "dense") -> Evaluation:
    nlls = np.array([2.0, 2.2, 2.1, 2.3])
    return Evaluation(
        model="m",
        dense=dense,
        settings=EvaluateSettings.checked(model="m", tasks="x"),
        perplexity=perplexity_result("`x.txt`", (4, 512), nlls, nlls - 0.5 if dense else None),
        tasks=tasks,
        environment={},
    )


def test_figures_stand_side_by_side() -> None:
    found = task_results(
        {"one": scores(50), "two": scores(79)}, {"one": scores(60), "two": scores(80)}
    )
    text = evaluation_text(evaluation(found))
    rows = {words[0]: words for words in map(str.split, text.splitlines()) if words}
    # ten lost of a hundred: p = 2/1024, twice that by Holm; one lost shows nothing
    assert " ".join(rows["one"][:-1]) == (
        "one worse acc 100 0.600 ± 0.049 0.500 ± 0.050 -0.100 ± 0.030 0.002 0.004 10 0"
    )
    assert " ".join(rows["two"][1:6]) == "not shown to be worse"
    assert "it is worse in one." in " ".join(text.split())
    # half a nat more of each token, in every window: e^0.5 times the perplexity
    assert "1.649 ± 0.000" in text
    assert "perplexity on 4 windows of 512 tokens: `x.txt`" in text


def test_without_a_dense_model_there_is_one_column() -> None:
    text = evaluation_text(evaluation(task_results({"one": scores(50)}, {}), dense=None))
    rows = [line.split() for line in text.splitlines()]
    assert ["one", "acc", "100", "0.500", "±", "0.050"] in rows
    assert "verdict" not in text


def test_one_task_is_not_tested_together_with_others() -> None:
    found = task_results({"one": scores(50)}, {"one": scores(50)})
    assert found["one"].difference is not None
    assert found["one"].difference.holm_p_value is None
    assert "p of all" not in evaluation_text(evaluation(found))


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_metric_that_is_no_right_or_wrong_is_compared_by_its_values(
    higher_is_better: bool,
) -> None:
    values = np.linspace(0.1, 0.9, 20)
    pruned, dense = (
        TaskScores(
            samples=[{"metrics": ["ter"]}] * 20,
            values={"ter": column},
            metrics={},
            higher_is_better={"ter": higher_is_better},
            num_fewshot=0,
            version="1",
        )
        for column in (values + 0.05 + 0.001 * values**2, values)
    )
    difference = task_results({"one": pruned}, {"one": dense})["one"].difference
    assert difference is not None
    assert difference.test == "paired t"
    assert difference.verdict == ("better" if higher_is_better else "worse")


def test_values_that_are_no_numbers_have_no_verdict() -> None:
    one, other = scores(50, metric="ter"), scores(50, metric="ter")
    one.values["ter"] = np.array([np.nan, *np.linspace(0.1, 0.9, 99)])
    assert task_results({"one": one}, {"one": other})["one"].difference is None
    assert task_results({"one": other}, {"one": one})["one"].difference is None


def test_a_metric_of_the_whole_task_has_no_verdict() -> None:
    whole = TaskScores(
        samples=[{"metrics": ["f1"]}] * 3,
        values={},
        metrics={"f1,none": 0.5},
        higher_is_better={"f1": True},
        num_fewshot=0,
        version="1",
    )
    found = task_results({"one": whole}, {"one": whole})
    assert found["one"].metric == "f1"
    assert found["one"].difference is None
    rows = [line.split() for line in evaluation_text(evaluation(found)).splitlines()]
    assert ["one", "no", "verdict", "f1", "3", "0.500", "0.500"] in rows
