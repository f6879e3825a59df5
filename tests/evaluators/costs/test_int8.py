"""Bytes of components in int8: counted weight by weight."""

import numpy as np
import pytest

from evaluators.costs.cost_model import CostModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import ConfigurationTables, unit_counts
from search_spaces.space.number_format import INT8
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.linear import matrix
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.moe_families import mixture

OPTIONS = (
    BlockOptions(),
    BlockOptions(format=INT8),
    BlockOptions(pattern=SparsityPattern(percent=50)),
    BlockOptions(pattern=SparsityPattern(percent=50), format=INT8),
)


def costs_of(structure: ModelStructure, options: dict[int, int]) -> dict[str, float]:
    """Return the costs with some components in the options at a position, all units kept."""
    block_options = [OPTIONS] * len(structure.components)
    stored = StoredFormat(dtype=next(structure.backbone.model.parameters()).dtype)
    model = CostModel(structure, stored=stored, context=8, block_options=block_options)
    chosen = np.array([options.get(i, 0) for i in range(len(structure.components))])
    tables = ConfigurationTables.of(structure.components, block_options)
    return model.of_one(tables.index(unit_counts(structure.components), chosen))


@pytest.mark.parametrize("position", [2, 3])
def test_a_weight_is_a_byte_and_a_row_a_scale(position: int) -> None:
    structure = dense("llama")
    component = structure.components[position]
    layer = structure.backbone.layers[component.layer]
    shapes = [matrix(layer.get_submodule(path)).shape for path in component.paths]
    weights, rows = sum(r * c for r, c in shapes), sum(r for r, _ in shapes)
    plain, rounded = costs_of(structure, {}), costs_of(structure, {position: 1})
    assert plain["size"] - rounded["size"] == 4 * weights - (weights + 4 * rows)
    assert rounded["packed"] == rounded["size"]
    assert {name: rounded[name] for name in ("params", "nonzero", "macs", "kv")} == {
        name: plain[name] for name in ("params", "nonzero", "macs", "kv")
    }
    sparse, both = costs_of(structure, {position: 2}), costs_of(structure, {position: 3})
    assert both["size"] == rounded["size"]
    # half the weights at a byte instead of four, and the scales
    assert sparse["packed"] - both["packed"] == 3 * weights / 2 - 4 * rows


def test_experts_have_scales_of_their_own() -> None:
    structure = mixture("mixtral")
    component = mixtures_of(structure.components)[-1]
    position = structure.components.index(component)
    layer = structure.backbone.layers[component.layer]
    tensors = [w.tensor for w in component.unit_weights(layer) if w.role == "matrix"]
    weights = sum(tensor.numel() for tensor in tensors)
    rows = sum(tensor.shape[0] * tensor.shape[1] for tensor in tensors)
    plain, rounded = costs_of(structure, {}), costs_of(structure, {position: 1})
    assert plain["size"] - rounded["size"] == 4 * weights - (weights + 4 * rows)
    assert rounded["loading"] == plain["loading"]
