"""Layers are cut where the largest stretch takes the fewest bytes."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from evaluators.backends.depth_cut import cut_by_bytes


@pytest.mark.parametrize("stages", range(1, 7))
def test_no_other_cut_has_a_smaller_largest_stage(stages: int) -> None:
    rng = np.random.default_rng(stages)
    for _ in range(20):
        layer_bytes = rng.integers(1, 100, size=7).tolist()
        cut = cut_by_bytes(layer_bytes, stages)
        assert [index for held in cut for index in held] == list(range(7))
        assert len(cut) == stages
        assert all(cut)
        found = max(sum(layer_bytes[held.start : held.stop]) for held in cut)
        others = [
            max(sum(layer_bytes[a:b]) for a, b in pairwise((0, *inner, 7)))
            for inner in combinations(range(1, 7), stages - 1)
        ]
        assert found == min(others)
