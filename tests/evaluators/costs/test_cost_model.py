import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.cost_model import CostModel
from search_spaces.models.fingerprint import identify
from search_spaces.models.stored import StoredFormat
from search_spaces.pruned_weights.bitmask import pack
from search_spaces.space.block_options import combined_options
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import ConfigurationTables, unit_counts
from search_spaces.space.sparsity import DENSE, SparsityPattern, sparsity_patterns
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure
from tests.models import tiny
from tests.models.cut_models import pruned

CONTEXT = 16
Make = Callable[[], ModelStructure]
llama, opt, phi = cache(tiny.llama), cache(tiny.opt), cache(tiny.phi)
families = pytest.mark.parametrize("family", [llama, opt, phi], ids=["llama", "opt", "phi"])


def cost_model(
    structure: ModelStructure, patterns: Sequence[SparsityPattern] = (DENSE,)
) -> CostModel:
    return CostModel(
        structure,
        stored=StoredFormat(dtype=torch.bfloat16),
        context=CONTEXT,
        block_options=[combined_options(patterns)] * len(structure.components),
    )


def costs(structure: ModelStructure, kept: list[int]) -> Mapping[str, float]:
    """Return the costs but those of zeros, which equal parameters and bytes without any zeros."""
    found = cost_model(structure).costs(np.array([kept]))
    everything = {name: float(cost[0]) for name, cost in found.items()}
    assert everything.pop("nonzero") == everything["params"]
    assert everything.pop("packed") == everything["size"]
    return everything


def test_a_llama_is_counted_by_hand() -> None:
    # hidden 32, heads of 8: 4 for queries, 2 groups; 48 channels; 96 tokens, embedding tied
    group = 32 * (16 + 8 + 8) + 16 * 32
    channel = 3 * 32
    norm = 32
    outside = 96 * 32 + norm
    full = 2 * group + norm + 48 * channel + norm
    assert costs(llama(), [2, 48, 2, 48, 2, 48])["params"] == outside + 3 * full
    some = [1, 48, 0, 17, 0, 0]
    found = costs(llama(), some)
    params = outside + (group + norm) + (48 * channel + norm) + (17 * channel + norm)
    # each token meets 16 others, in 2 query heads of a group, 8 features of keys and 8 of values
    macs = 96 * 32 + group + 2 * 16 * (8 + 8) + (48 + 17) * channel
    kv = 2 * (8 + 8)
    assert found == {"params": params, "size": 2 * params, "bits": 16, "macs": macs, "kv": kv}


def test_an_opt_is_counted_by_hand() -> None:
    # hidden 32, 4 heads of 8, 48 channels; biases everywhere; norms have two vectors
    head = 4 * 8 * 32 + 3 * 8
    channel = 2 * 32 + 1
    stands = 32 + 2 * 32  # the bias of the output and the norm
    outside = 96 * 32 + 66 * 32 + 2 * 32
    found = costs(opt(), [3, 0, 0, 5])
    params = outside + 3 * head + stands + 5 * channel + stands
    macs = 96 * 32 + 3 * (4 * 8 * 32 + 16 * (8 + 8)) + 5 * 2 * 32
    kv = 2 * 3 * (8 + 8)
    assert found == {"params": params, "size": 2 * params, "bits": 16, "macs": macs, "kv": kv}


def test_tied_embeddings_count_once_as_parameters_and_always_as_products() -> None:
    tied, own = (cost_model(tiny.llama(layers=1, tied=tied)).dense() for tied in (True, False))
    assert own["params"] - tied["params"] == 96 * 32
    assert own["macs"] == tied["macs"]


def test_norms_that_a_phi_shares_count_as_long_as_the_layer_stands() -> None:
    gone = costs(phi(), [0, 0, 0, 0])["params"]
    attention, mlp, both = (
        costs(phi(), kept)["params"] - gone
        for kept in ([4, 0, 0, 0], [0, 48, 0, 0], [4, 48, 0, 0])
    )
    norm = 2 * 32
    assert attention == 4 * 32 * 32 + 4 * 32 + norm
    assert mlp == 2 * 48 * 32 + 48 + 32 + norm
    assert both == attention + mlp - norm


@families
def test_parameters_are_those_of_a_model_cut_for_real(family: Make) -> None:
    structure = family()
    counts = tiny.random_counts(structure, 30, np.random.default_rng(1))
    counts[:3] = [tiny.dense_counts(structure), counts[1] * 0, counts[2] * 0 + 1]
    found = cost_model(structure).costs(counts)
    for kept, params, size in zip(counts, found["params"], found["size"], strict=True):
        by_hand = sum(weight.numel() for weight in pruned(structure, kept).parameters())
        assert (params, size) == (by_hand, 2 * by_hand)


def test_size_is_the_tensor_data_on_disk(tmp_path: Path) -> None:
    model = copy.deepcopy(llama().backbone.model).bfloat16()
    model.save_pretrained(tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert "model.embed_tokens.weight" in json.loads(content[8 : 8 + header])
    assert cost_model(llama()).dense()["size"] == len(content) - 8 - header


@pytest.mark.parametrize("kept", [[4, 48, 4, 48], [3, 5, 1, 17], [0, 48, 2, 0]])
def test_macs_are_half_of_the_flops_that_torch_counts(kept: list[int]) -> None:
    tokens = tiny.windows(1, CONTEXT)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        # every token is counted against all others, masked or not
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            structure = opt()
            inputs = structure.backbone.enter(tokens)
        entered = counter.get_total_flops()
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            hidden = inputs.hidden
            layers = pruned(structure, np.array(kept)).get_submodule(structure.backbone.stack.path)
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                hidden = structure.backbone.run_layer(layer, hidden, inputs.calls[0])
            structure.backbone.logits(structure.backbone.leave(hidden))
    flops = counter.get_total_flops() - entered
    assert costs(opt(), kept)["macs"] == flops / 2 / CONTEXT


@torch.inference_mode()
def test_kv_is_what_a_real_cache_holds() -> None:
    output = llama().backbone.model(input_ids=tiny.windows(1, 10), use_cache=True)
    values = sum(
        layer.keys.numel() + layer.values.numel() for layer in output.past_key_values.layers
    )
    assert cost_model(llama()).dense()["kv"] == 2 * values / 10


@pytest.mark.parametrize(
    "kind", ["heads,channels,drops", "layers", "heads,channels,drops,sparsity,2:4", "layers,2:4"]
)
@pytest.mark.parametrize("metric", ["params", "size", "macs", "kv", "nonzero", "packed"])
@families
def test_joint_costs_add_up_to_the_costs_but_for_shared_norms(
    family: Make, metric: str, kind: str
) -> None:
    structure = family()
    model = structure.backbone.model
    components = structure.components
    orders = [np.arange(component.unit_count) for component in components]
    choices = Choices.parse(kind)
    patterns = sparsity_patterns(choices, 30)
    space = build_space(identify(model), components, orders, choices=choices, patterns=patterns)
    rng = np.random.default_rng(2)
    genomes = rng.integers(space.top_levels + 1, size=(20, len(space.sites)))
    configurations = space.configurations(genomes)
    judge = cost_model(structure, patterns)
    joints = judge.joint_costs(metric, space)
    assert tuple(sites for sites, _ in joints) == tuple(space.groups)
    shapes = [tuple(space.top_levels[list(sites)] + 1) for sites, _ in joints]
    assert [table.shape for _, table in joints] == shapes
    added = sum(table[tuple(genomes[:, sites].T)] for sites, table in joints)
    found = judge.costs(configurations)[metric] - judge.costs(configurations[:1] * 0)[metric]
    norms = {"params": 2 * 32, "size": 2 * 2 * 32, "nonzero": 2 * 32, "packed": 2 * 2 * 32}
    shared = norms.get(metric, 0) if family is phi else 0
    standing = configurations.reshape(len(configurations), -1, 2).any(axis=2).sum(axis=1)
    np.testing.assert_allclose(added + shared * standing, found)


SPARSE = (
    DENSE,
    SparsityPattern(percent=30),
    SparsityPattern(keep=2, group=4),
    SparsityPattern(percent=90),
)


@families
def test_zeros_shrink_what_is_counted_without_them_and_nothing_else(family: Make) -> None:
    structure = family()
    widths = unit_counts(structure.components)
    plain = CostModel(structure, stored=StoredFormat(dtype=torch.bfloat16), context=CONTEXT)
    block_options = [combined_options(SPARSE)] * len(widths)
    judge = CostModel(
        structure,
        stored=StoredFormat(dtype=torch.bfloat16),
        context=CONTEXT,
        block_options=block_options,
    )
    rng = np.random.default_rng(3)
    kept = rng.integers(widths + 1, size=(12, len(widths)))
    chosen = rng.integers(len(SPARSE), size=kept.shape)
    tables = ConfigurationTables.of(structure.components, block_options)
    found = judge.costs(tables.index(kept, chosen))
    for name, values in plain.costs(kept).items():
        assert name in ("nonzero", "packed") or (found[name] == values).all()
    for row, patterns, nonzero, packed in zip(
        kept, chosen, found["nonzero"], found["packed"], strict=True
    ):
        zeros, saved = 0, 0
        for component, count, pattern in zip(structure.components, row, patterns, strict=True):
            layer = structure.backbone.layers[component.layer]
            for projection in component.projections:
                rows, columns = matrix(layer.get_submodule(projection.path)).shape
                stay = int((projection.units < count).sum())
                shape = (stay, columns) if projection.side == "rows" else (rows, stay)
                weight = torch.ones(shape, dtype=torch.bfloat16)
                gone = SPARSE[pattern].zeros(*shape)
                zeros += gone
                weight.view(-1)[:gone] = 0
                bits, rest = pack(weight)
                saved += max(0, weight.nbytes - bits.nbytes - rest.nbytes)
        params, size = (plain.costs(row[None])[name][0] for name in ("params", "size"))
        assert nonzero == params - zeros
        assert packed == size - saved


def test_a_bias_is_paid_where_units_went_and_there_was_none() -> None:
    for family, rows in ((llama, 32), (opt, 0)):  # opt has biases of its own
        structure = family()
        widths = unit_counts(structure.components)
        plain = CostModel(structure, stored=StoredFormat(dtype=torch.bfloat16), context=CONTEXT)
        judge = CostModel(
            structure, stored=StoredFormat(dtype=torch.bfloat16), context=CONTEXT, adds_bias=True
        )
        kept = widths.copy()
        kept[:3] = [widths[0] - 1, 0, widths[2] - 1]
        for configurations, biases in ((widths, 0), (kept, 2)):
            more = (
                judge.costs(configurations[None])["params"]
                - plain.costs(configurations[None])["params"]
            )
            assert more == biases * rows
