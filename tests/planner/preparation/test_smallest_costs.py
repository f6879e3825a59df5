"""The least that plans of a space come to, with which budgets are refused."""

import itertools
from pathlib import Path

import numpy as np

from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.planner.recovery.prepared_plans import prepared_model


def test_bits_are_the_fewest_of_all_plans(tmp_path: Path) -> None:
    """Here of those that drop the MLPs alone: but for the attentions' outputs nothing fits."""
    config = FAMILIES["llama"].config()
    config.num_hidden_layers, config.intermediate_size = 2, 40
    config.hidden_size, config.vocab_size, config.num_attention_heads = 48, 96, 4
    config.head_dim, config.num_key_value_heads = 16, 2
    model = save_model(make_model(config), tmp_path / "model")
    prepared = prepared_model(model, tmp_path / "run", space="drops,formats", formats="Q8_0,Q4_0")
    space, costs = prepared.space, prepared.dense.costs
    every = itertools.product(*(range(top + 1) for top in space.top_levels))
    genomes = space.repaired(np.array(list(every)))
    found = costs.costs(space.configurations(genomes))["bits"]
    assert prepared.smallest_costs()["bits"] == found.min()
    ends = (space.smallest(), np.where(space.top_levels > 1, 0, space.top_levels))
    assert all(found.min() < prepared.costs_of(genome)["bits"] for genome in ends)
