"""Perplexity against direct computation, and which text it is measured on."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from evaluators.data.text_samples import Vocabulary
from planner.evaluate.evaluation_results import perplexity_result
from planner.evaluate.perplexity import (
    EvaluationText,
    evaluation_text,
    text_windows,
    window_nlls,
)
from planner.settings.evaluate import EvaluateSettings
from search_spaces.errors import DataError, ModelError, SettingsError
from search_spaces.progress import NO_PROGRESS
from search_spaces.structure.model import ModelStructure
from tests.models.factory import VOCABULARY, twin


def words(count: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    return " ".join(f"w{index}" for index in rng.integers(3, VOCABULARY, count))


@pytest.fixture
def vocabulary(llama: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    return Vocabulary.of(llama.backbone.model, tokenizer)


def test_it_is_the_likelihood_of_each_next_token(
    llama: ModelStructure, vocabulary: Vocabulary
) -> None:
    model, text = llama.backbone.model, EvaluationText(text=words(200), name="it")
    windows = text_windows(text, vocabulary, (5, 16), seed=3)
    assert windows.shape == (5, 16)
    with torch.no_grad():
        log_q = model(windows).logits.double().log_softmax(dim=-1)
    by_hand = [
        -np.mean([float(log_q[row, at, windows[row, at + 1]]) for at in range(15)])
        for row in range(5)
    ]
    nlls = window_nlls(model, "it", windows, NO_PROGRESS)
    np.testing.assert_allclose(nlls, by_hand, rtol=1e-5)  # float32 against float64
    found = perplexity_result("it", (5, 16), nlls, nlls + math.log(2))
    assert found.pruned.value == pytest.approx(math.exp(np.mean(by_hand)), rel=1e-5)
    assert found.dense is not None
    assert found.dense.value == pytest.approx(2 * found.pruned.value)
    assert found.difference is not None
    assert found.difference.verdict == "better"
    assert found.difference.gain == pytest.approx(math.log(2))


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_model_that_computes_no_numbers_is_refused(
    weight: float, llama: ModelStructure, vocabulary: Vocabulary
) -> None:
    model = twin(llama).backbone.model
    windows = text_windows(EvaluationText(text=words(99), name="it"), vocabulary, (3, 16), seed=3)
    with torch.no_grad():
        next(model.parameters())[windows[1, 4]] = weight
    with pytest.raises(ModelError, match=r"of `it` that of window \d is nan; try"):
        window_nlls(model, "it", windows, NO_PROGRESS)


def test_windows_are_drawn_once_and_in_order(vocabulary: Vocabulary) -> None:
    """From all of the text: as many windows as there are, each of its tokens once."""
    text = EvaluationText(text=words(100), name="it")
    windows = text_windows(text, vocabulary, (50, 8), seed=0)
    ids = [int(word[1:]) for word in text.text.split()]
    assert windows.flatten().tolist() == ids[:96]
    some = text_windows(text, vocabulary, (5, 8), seed=1)
    assert len({tuple(row) for row in some.tolist()}) == 5
    assert torch.equal(some, text_windows(text, vocabulary, (5, 8), seed=1))
    assert not torch.equal(some, text_windows(text, vocabulary, (5, 8), seed=2))


def test_text_that_is_too_short_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(DataError, match=r"two windows of 64 tokens.*holds 1; give more"):
        text_windows(EvaluationText(text=words(100), name="it"), vocabulary, (2, 64), seed=0)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("before " * 50 + "second " * 55, encoding="utf-8")
    return path


def settings(**values: object) -> EvaluateSettings:
    return EvaluateSettings.checked(model="m", **values)


def test_given_text_is_read_whole(book: Path) -> None:
    read = evaluation_text(settings(data=str(book)), searched_on="another.txt")
    assert read.text.split() == ["before"] * 50 + ["second"] * 55
    assert read.name == f"`{book}`"


@pytest.mark.parametrize("given", [True, False])
def test_of_the_text_of_the_search_the_second_half_is_read(book: Path, given: bool) -> None:
    chosen = settings(data=str(book)) if given else settings()
    read = evaluation_text(chosen, searched_on=str(book))
    assert read.text.split()[-50:] == ["second"] * 50
    assert "before" not in read.text
    assert read.name.startswith("the second half of `")


def test_held_out_text_of_the_search_is_read_whole(book: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("third", encoding="utf-8")
    searched_on = f"{book}, held out {other}"
    assert evaluation_text(settings(), searched_on).text == "third"
    with pytest.raises(SettingsError, match="not fitted on"):
        evaluation_text(settings(data=str(book)), searched_on)


@pytest.mark.parametrize(
    ("searched_on", "said"),
    [("", "names none"), ("sampled from the model, seed 0", "was searched on its own")],
)
def test_a_models_own_text_is_no_measure(searched_on: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        evaluation_text(settings(), searched_on)
    assert evaluation_text(settings(data=__file__), searched_on).text


def test_options_of_tasks_come_with_tasks() -> None:
    with pytest.raises(SettingsError, match="`limit` is of tasks"):
        settings(limit=3)
