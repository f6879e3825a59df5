"""Rises of NLL where something is removed, against models that are silenced by hand."""

import numpy as np
import pytest
import torch

from evaluators.collectors import collect_statistics
from search_spaces.statistics import StatisticName
from tests.models.candidates import masked_logits, random_tokens
from tests.models.families import FAMILIES, dense

WANTED: frozenset[StatisticName] = frozenset({"removal_nll"})
WINDOWS = random_tokens(batch=3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "neox"])
def test_rises_are_those_of_models_without_the_part(name: str) -> None:
    family, structure = FAMILIES[name], dense(name)
    components = structure.components
    used = WINDOWS[:2]

    def nll(gone: list[int]) -> float:
        kept = [
            np.arange(0 if i in gone else component.unit_count)
            for i, component in enumerate(components)
        ]
        logits = masked_logits(family, structure, kept, used)[:, :-1].double()
        said = torch.log_softmax(logits, dim=-1).gather(-1, used[:, 1:, None])
        return -float(said.mean())

    dense_nll = nll([])
    found = collect_statistics(structure, WINDOWS, WANTED, removal_windows=2)
    for layer in (0, 3, 5):
        first = 2 * layer
        for part, gone in (
            ("", [first, first + 1]),
            ("attention", [first]),
            ("mlp", [first + 1]),
        ):
            rise = float(found[layer]["removal_nll", part])
            # sums of float32 logits
            assert rise == pytest.approx(nll(gone) - dense_nll, abs=2e-5)


def test_all_windows_are_used_where_there_are_few() -> None:
    structure = dense("llama")
    few, many = (
        collect_statistics(structure, WINDOWS, WANTED, removal_windows=count) for count in (3, 99)
    )
    assert all(
        a["removal_nll", ""] == b["removal_nll", ""] for a, b in zip(few, many, strict=True)
    )
