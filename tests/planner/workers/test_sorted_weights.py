"""Weights in a file take the place of those in memory, and must be the same."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.scoring.evaluator import Evaluator
from planner.workers.sorted_weights import map_weights_, save_weights
from search_spaces.errors import ModelError
from search_spaces.models.fingerprint import lasting
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny


def test_a_mapped_model_scores_the_same_bit_for_bit(tmp_path: Path) -> None:
    structure = tiny.llama()
    model, counts = (
        structure.backbone.model,
        tiny.random_counts(structure, 3, np.random.default_rng(0)),
    )
    before = dict(Evaluator(sorted_as_is(structure), tiny.windows()).score(counts))
    places = {name: weight.data_ptr() for name, weight in lasting(model).items()}
    save_weights(model, tmp_path / "weights")
    map_weights_(model, tmp_path / "weights")
    assert all(places[name] != weight.data_ptr() for name, weight in lasting(model).items())
    assert all(weight.data_ptr() % 64 == 0 for weight in lasting(model).values())
    after = dict(Evaluator(sorted_as_is(structure), tiny.windows()).score(counts))
    assert all(
        before[m].by_window["kl"].tobytes() == after[m].by_window["kl"].tobytes() for m in after
    )


def test_what_is_written_to_a_mapped_model_stays_in_memory(tmp_path: Path) -> None:
    model = tiny.llama().backbone.model
    save_weights(model, tmp_path / "weights")
    content = (tmp_path / "weights").read_bytes()
    map_weights_(model, tmp_path / "weights")
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert (tmp_path / "weights").read_bytes() == content


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_weights(tiny.llama().backbone.model, tmp_path / "weights")
    model = tiny.llama().backbone.model
    with torch.no_grad():
        next(model.parameters())[3, 1] += 1
    with pytest.raises(ModelError, match="must have the weights of the search, got others of sh"):
        map_weights_(model, tmp_path / "weights")
