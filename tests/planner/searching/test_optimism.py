"""What is fitted to noise looks better on the noise, and must not look better to the search."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from transformers import LlamaConfig

import planner
from evaluators.data.windows import DRAWS, Calibration
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.results.significance import smallest_difference
from planner.searchers.problem.moves import mutate
from planner.searching.problem import Problem
from planner.searching.scorer import Scorer
from planner.settings.search import SearchSettings
from search_spaces.progress import NoProgress
from tests.models.factory import GROUPED, VOCABULARY, make_model, save_model

WORDS = 12_000
NOISE: dict[str, Any] = {
    "dtype": "float32",
    "budget": "params<=0.7x",
    "search_windows": 64,
    "fresh_windows": 64,
    "holdout_windows": 16,
    # of which one is kept apart: 32 tokens to fit matrices of up to 48 columns
    "calibration_windows": 3,
    "window_tokens": 16,
}
PLAIN, FITTED = "none", "least_squares"
TELLS = (
    r"these 64 windows can tell plans (?P<apart>\S+) KL apart at KL (?P<level>\S+), four times in "
    r"five; more `--search_windows` tell more"
)
TEXTS = ("fitted", "search", "fresh")
Scores = Mapping[tuple[str, str], NDArray[np.float64]]
"""KL by compensation and text, ``(plans, windows)``."""


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A random model, and text whose every word is drawn from all."""
    folder = tmp_path_factory.mktemp("noise")
    model = make_model(LlamaConfig(**GROUPED | {"num_hidden_layers": 2}))
    words = np.random.default_rng(0).integers(3, VOCABULARY, size=WORDS)
    (folder / "text.txt").write_text(" ".join(f"w{word}" for word in words))
    return {
        "model": str(save_model(model, folder / "model")),
        "data": str(folder / "text.txt"),
    }


def prepared_with(compensate: str, noise: dict[str, str], folder: Path) -> PreparedModel:
    settings = SearchSettings.checked(**noise, **NOISE, compensate=compensate)
    return prepare(open_model(settings, NoProgress()), settings, folder, NoProgress())


@pytest.fixture(scope="module")
def scores(noise: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Scores:
    """The same plans with plain weights and with weights fitted to noise, on each text."""
    scores: dict[tuple[str, str], NDArray[np.float64]] = {}
    for compensate in (PLAIN, FITTED):
        prepared = prepared_with(compensate, noise, tmp_path_factory.mktemp("run"))
        settings = SearchSettings.checked(**noise, **NOISE)
        domain = Problem.of(settings, prepared).domain(prepared)
        no_tilt = np.zeros(len(domain.top_levels))
        parents = [domain.by_prior(cost, no_tilt) for cost in (0.75, 0.8, 0.85, 0.9)]
        genomes = mutate(domain, np.repeat(parents, 6, axis=0), np.random.default_rng(0))
        for text in TEXTS:
            windows = getattr(prepared.calibration, text)
            evaluator = Evaluator(
                prepared.sorted_model, windows, Fidelity(), layer_builder=prepared.layer_builder
            )
            scored = dict(Scorer(prepared, evaluator).score(genomes))
            scores[compensate, text] = np.stack(
                [scored[index].score.by_window["kl"] for index in range(len(genomes))]
            )
    return scores


def fitted_wins(scores: Scores, text: str) -> NDArray[np.bool_]:
    wins: NDArray[np.bool_] = scores[FITTED, text].mean(axis=1) < scores[PLAIN, text].mean(axis=1)
    return wins


def test_what_was_fitted_to_noise_is_taken_on_its_own_text_and_on_no_other(
    scores: Scores,
) -> None:
    # as a search would choose that compares plans on what they were fitted on
    assert fitted_wins(scores, "fitted").mean() > 0.9
    assert fitted_wins(scores, "search").mean() < 0.25
    assert (fitted_wins(scores, "search") == fitted_wins(scores, "fresh")).mean() > 0.8


@pytest.mark.parametrize("compensate", [PLAIN, FITTED])
def test_the_search_text_flatters_no_fit(scores: Scores, compensate: str) -> None:
    def errors_above_fresh(text: str) -> float:
        ours, fresh = (scores[compensate, name].mean(axis=0) for name in (text, "fresh"))
        error = np.hypot(*(each.std(ddof=1) / len(each) ** 0.5 for each in (ours, fresh)))
        return float((ours.mean() - fresh.mean()) / error)

    assert abs(errors_above_fresh("search")) < 3
    if compensate == FITTED:
        assert errors_above_fresh("fitted") < -10


def test_a_search_over_fits_to_noise_is_not_optimistic(
    noise: dict[str, str], tmp_path: Path, notices: list[str]
) -> None:
    options: dict[str, Any] = {
        **noise,
        **NOISE,
        "compensate": FITTED,
        "population": 8,
        "evaluations": 40,
    }
    run = planner.search(**options, out=tmp_path / "run")
    front = pd.read_csv(run.folder / "front.csv").query("kl > 0")
    assert len(front) > 5
    error = np.hypot(front["kl_se"], front["fresh_kl_se"])
    assert (front["optimism"] > -3 * error).all()
    assert abs(front["optimism"].median()) <= 0.1 * front["kl"].median()
    text = Calibration.load(run.folder / "calibration.npz")
    windows = [tuple(window) for draw in DRAWS for window in getattr(text, draw).tolist()]
    assert len(set(windows)) == len(windows) == 3 + 64 + 64 + 16

    # what its windows can tell apart is said before it begins, and is what its own plans show
    told = [re.fullmatch(TELLS, line) for line in notices]
    (place,) = (number for number, found in enumerate(told) if found)
    assert notices[place - 1].startswith("one plan takes")
    found = told[place]
    assert found is not None
    scored = [e.score.by_window["kl"] for e in run.landed() if e.score.windows == 64]
    level, apart = float(found["level"]), float(found["apart"])
    near = [values for values in scored if 0.5 * level < values.mean() < 2 * level]
    assert len(near) > 3
    assert apart == pytest.approx(smallest_difference(np.stack(near)), rel=0.6)
