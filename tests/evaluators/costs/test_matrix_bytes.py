"""Bytes of components in number formats: counted matrix by matrix."""

from typing import Any

import numpy as np
import pytest

from evaluators.costs.cost_model import CostModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import ConfigurationTables, unit_counts
from search_spaces.space.formats.component_formats import Sources
from search_spaces.space.number_format import (
    CACHE_FORMATS,
    FORMATS,
    SOURCE,
    STORED,
    file_format,
)
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.linear import matrix
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from tests.models.moe_families import mixture_in_blocks
from tests.models.tiny import llama

Q8, Q4 = FORMATS["Q8_0"], FORMATS["Q4_K"]
HALF = SparsityPattern(percent=50)
OPTIONS = (
    BlockOptions(),
    BlockOptions(format=Q8),
    BlockOptions(pattern=HALF),
    BlockOptions(pattern=HALF, format=Q8),
    BlockOptions(format=Q4),
    BlockOptions(format=SOURCE),
    BlockOptions(cache=CACHE_FORMATS["Q8_0"]),
    BlockOptions(format=SOURCE, stand_in=1),
)


def costs_of(
    structure: ModelStructure,
    options: dict[int, int],
    units: dict[int, int] | None = None,
    sources: Sources | None = None,
) -> dict[str, float]:
    """Return the costs with some components in the options at a position."""
    block_options = [OPTIONS] * len(structure.components)
    stored = StoredFormat(dtype=next(structure.backbone.model.parameters()).dtype)
    model = CostModel(
        structure, stored=stored, context=8, block_options=block_options, sources=sources
    )
    chosen = np.array([options.get(i, 0) for i in range(len(structure.components))])
    counts = unit_counts(structure.components)
    for position, count in (units or {}).items():
        counts[position] = count
    tables = ConfigurationTables.of(structure.components, block_options)
    return model.of_one(tables.index(counts, chosen))


def by_hand(structure: ModelStructure, position: int, name: str) -> int:
    """Add up the bytes of a component's matrices where a format is asked for, in float32."""
    component, total = structure.components[position], 0
    for path in component.paths:
        rows, columns = matrix(structure.owner(component).get_submodule(path)).shape
        held = FORMATS[name].held(columns)
        total += rows * columns * 4 if held == STORED else held.bytes_of(rows, columns)
    return total


@pytest.mark.parametrize("position", [2, 3, -2, -1])
@pytest.mark.parametrize("option", [1, 4])
def test_matrices_are_blocks_with_their_scales(position: int, option: int) -> None:
    structure = llama(tied=False).with_ends()
    position %= len(structure.components)
    component = structure.components[position]
    shapes = [
        matrix(structure.owner(component).get_submodule(path)).shape for path in component.paths
    ]
    weights = sum(rows * columns for rows, columns in shapes)
    plain, rounded = costs_of(structure, {}), costs_of(structure, {position: option})
    saved = 4 * weights - by_hand(structure, position, OPTIONS[option].format.name)
    assert saved > 0
    assert plain["size"] - rounded["size"] == saved
    assert rounded["packed"] == rounded["size"]
    same = ("params", "nonzero", "macs", "kv")
    assert {name: rounded[name] for name in same} == {name: plain[name] for name in same}
    assert rounded["bits"] == pytest.approx(8 * rounded["size"] / rounded["params"])
    assert plain["bits"] == pytest.approx(32, rel=0.02)  # rotary tables are no parameters


def test_zeros_that_no_block_holds_are_packed_as_they_are_stored() -> None:
    """The last matrix of an MLP has rows of 48 inputs, which stay in float32."""
    structure = llama()
    sparse, both = (costs_of(structure, {3: option}) for option in (2, 3))
    rows, columns = matrix(
        structure.owner(structure.components[3]).get_submodule("mlp.down_proj")
    ).shape
    assert columns == 48
    others = 2 * rows * columns  # of gate and up, in blocks of 32
    saved = by_hand(structure, 3, "Q8_0") - 4 * 3 * rows * columns
    assert both["size"] - sparse["size"] == saved
    # of each zero in a block 24 bits fewer are left out than in float32
    assert both["packed"] - sparse["packed"] == saved + 24 * (others // 2) // 8


def test_zeros_are_packed_in_every_format() -> None:
    structure = llama()
    component = structure.components[0]  # all of its rows are whole blocks of 32
    layer = structure.backbone.layers[0]
    weights = sum(matrix(layer.get_submodule(path)).numel() for path in component.paths)
    sparse, both = costs_of(structure, {0: 2}), costs_of(structure, {0: 3})
    assert both["size"] == costs_of(structure, {0: 1})["size"]
    # half the weights at a byte instead of four, and a scale of two bytes for each 32
    assert sparse["packed"] - both["packed"] == 3 * weights / 2 - 2 * weights / 32


def test_a_tied_embedding_is_counted_once() -> None:
    structure = llama(tied=True).with_ends()
    position = len(structure.components) - 1
    plain, rounded = costs_of(structure, {}), costs_of(structure, {position: 1})
    embedding: Any = structure.backbone.model.get_input_embeddings().weight
    assert plain["size"] - rounded["size"] == embedding.numel() * (4 - 34 / 32)
    assert plain == costs_of(llama(tied=True), {})


def test_experts_are_read_and_run_in_their_formats() -> None:
    structure = mixture_in_blocks()
    component = mixtures_of(structure.components)[-1]
    position = structure.components.index(component)
    layer = structure.backbone.layers[component.layer]
    tensors = [w.tensor for w in component.unit_weights(layer) if w.role == "matrix"]
    assert all(tensor.shape[-1] % 32 == 0 for tensor in tensors)
    weights = sum(tensor.numel() for tensor in tensors)
    plain, rounded = costs_of(structure, {}), costs_of(structure, {position: 1})
    saved = weights * (4 - 34 / 32)
    running = component.top_k / component.member_count
    assert plain["size"] - rounded["size"] == pytest.approx(saved)
    assert plain["loading"] - rounded["loading"] == pytest.approx(saved * running)
    assert plain["active_size"] - rounded["active_size"] == pytest.approx(saved * running)
    assert plain["active_size"] == pytest.approx(4 * plain["active"], rel=0.02)


def test_a_source_is_as_large_as_it_came_and_what_is_cut_as_what_is_made_anew() -> None:
    structure = llama()
    component, layer = structure.components[0], structure.backbone.layers[0]
    weights = component.unit_weights(layer)
    names = [structure.tensor_name(component, weight.path) for weight in weights]
    sources = dict.fromkeys(names, FORMATS["Q4_1"])
    plain = costs_of(structure, {}, sources=sources)
    whole = costs_of(structure, {0: 5}, sources=sources)
    count = sum(weight.tensor.numel() for weight in weights)
    assert plain["size"] - whole["size"] == count * (4 - 20 / 32)
    # MXFP4 is only in files: of the half that is kept, what has whole rows stays in it, and the
    # output projection, whose rows are cut to 16 inputs, is in no blocks of 32 any more
    sources = dict.fromkeys(names, file_format("MXFP4"))
    half = costs_of(structure, {0: 5}, {0: 1}, sources=sources)
    none = costs_of(structure, {}, {0: 1}, sources=sources)
    in_rows = sum(weight.tensor.numel() for weight in weights if weight.side == "rows") // 2
    assert none["size"] - half["size"] == in_rows * (4 - 17 / 32)


def test_an_output_that_stands_in_for_others_is_made_anew() -> None:
    structure = llama()
    component, layer = structure.components[0], structure.backbone.layers[0]
    *inner, output = component.unit_weights(layer)
    names = [structure.tensor_name(component, weight.path) for weight in (*inner, output)]
    sources = dict.fromkeys(names, file_format("MXFP4"))  # of 17 bytes a block; anew of 18
    whole = costs_of(structure, {0: 5}, sources=sources)
    standing_in = costs_of(structure, {0: 7}, sources=sources)
    assert standing_in["size"] - whole["size"] == output.tensor.numel() / 32


def test_the_cache_is_counted_in_its_own_format() -> None:
    structure = llama()
    plain = costs_of(structure, {})
    attentions = {i: 6 for i, each in enumerate(structure.components) if each.mixes_tokens}
    rounded = costs_of(structure, attentions)
    assert rounded["kv"] == plain["kv"] * (34 / 32) / 4
    assert rounded["size"] == plain["size"]
