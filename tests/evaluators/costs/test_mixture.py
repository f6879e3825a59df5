"""What mixtures of experts cost: by hand, as tensors of cut layers, and as operations counted."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.cost_model import CostModel
from evaluators.metric import METRICS
from search_spaces.models.fingerprint import identify
from search_spaces.models.stored import StoredFormat
from search_spaces.pruned_weights.bitmask import pack
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import (
    ConfigurationTables,
)
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from tests.models import tiny
from tests.models.cut_models import cut_layers, random_configurations, ways
from tests.models.moe_families import CHANNELS, EACH_MOE_FAMILY, EXPERTS, mixture

CONTEXT = 12
HIDDEN = 32
EXPERT = 3 * HIDDEN * CHANNELS
SPARSE = (
    DENSE,
    SparsityPattern(percent=30),
    SparsityPattern(keep=2, group=4),
    SparsityPattern(percent=90),
)
families = pytest.mark.parametrize("name", EACH_MOE_FAMILY)


def cost_model(
    structure: ModelStructure, patterns: tuple[SparsityPattern, ...] = (DENSE,)
) -> CostModel:
    block_options = ways(structure, patterns)
    return CostModel(
        structure,
        stored=StoredFormat(dtype=torch.bfloat16),
        context=CONTEXT,
        block_options=block_options,
    )


def tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a model, and all that a checkpoint of it holds, tied ones once."""
    held = {value.data_ptr(): value for value in model.state_dict().values()}
    return list(model.parameters()), list(held.values())


def dense(name: str) -> Mapping[str, float]:
    return cost_model(mixture(name)).dense()


def test_a_mixtral_is_counted_by_hand() -> None:
    # hidden 32, heads of 8: 4 for queries, 2 groups; 8 experts of 16 channels, 2 of which run
    attention = 2 * (HIDDEN * (16 + 8 + 8) + 16 * HIDDEN)
    layer = attention + EXPERTS * HIDDEN + 2 * HIDDEN
    outside = 96 * HIDDEN * 2 + HIDDEN
    found = dense("mixtral")
    assert found["params"] == outside + 4 * (layer + 8 * EXPERT) == found["size"] / 2
    assert found["active"] == outside + 4 * (layer + 2 * EXPERT)
    assert found["loading"] == 2 * 4 * 2 * EXPERT
    scores = 4 * CONTEXT * (8 + 8)
    macs = 96 * HIDDEN + 4 * (attention + scores + EXPERTS * HIDDEN + 2 * EXPERT)
    assert found["macs"] == macs


def test_what_a_mixtral_keeps_is_counted_by_hand() -> None:
    """Of two layers 5 experts, one of which runs, and 3 of a quarter of the channels."""
    structure = mixture("mixtral")
    tables = ConfigurationTables.of(structure.components, ways(structure))
    model = cost_model(structure)
    alone = tables.index(np.array([[2, 5, 2, 3, 2, 0, 2, 0]]), np.array([[0, 2, 0, 1] + [0] * 4]))
    bare = tables.index(np.array([[2, 0] * 4]), np.zeros((1, 8), dtype=np.int_))
    assert ways(structure)[1][1:3] == (BlockOptions(channels=4), BlockOptions(top_k=1))
    found, less = model.costs(alone), model.costs(bare)
    own = {name: float(found[name][0] - less[name][0]) for name in found}
    rows, norms = (5 + 3) * HIDDEN, 2 * HIDDEN
    stored, run = 5 * EXPERT + 3 * EXPERT // 4, EXPERT + 2 * EXPERT // 4
    assert own["params"] == rows + norms + stored
    assert own["active"] == rows + norms + run
    assert own["macs"] == rows + run
    assert own["loading"] == 2 * run
    assert own["kv"] == 0


def test_a_shared_expert_and_its_gate_are_counted_by_hand() -> None:
    bare, whole = [2, 0, 0] * 4, [2, 0, 24] * 4
    found = cost_model(mixture("qwen2-moe")).costs(np.array([bare, whole]))
    own = {name: float(values[1] - values[0]) for name, values in found.items()}
    shared = 3 * HIDDEN * 24 + HIDDEN
    assert own == {
        "params": 4 * shared,
        "bits": 0,
        "active": 4 * shared,
        "active_size": 8 * shared,
        "nonzero": 4 * shared,
        "macs": 4 * shared,
        "size": 8 * shared,
        "packed": 8 * shared,
        "loading": 8 * shared,
        "kv": 0,
    }


def test_groups_dense_layers_and_the_buffer_of_a_deepseek_are_counted_by_hand() -> None:
    # 4 groups of 4 experts, 3 of which run; the first layer is dense; a row has a bias in a buffer
    found = cost_model(mixture("deepseek-v3")).costs(
        np.array([[4, 48] + [4, 0, 32] * 3, [4, 48] + [4, 3, 32] * 3])
    )
    own = {name: float(values[1] - values[0]) for name, values in found.items()}
    assert own["params"] == 3 * 4 * 3 * (EXPERT + HIDDEN)
    assert own["size"] == 2 * own["params"] + 4 * (3 * 4 * 3)  # buffers stay in float32
    assert own["active"] == 3 * (3 * EXPERT + 4 * 3 * HIDDEN) == own["macs"]
    assert own["loading"] == 2 * 3 * 3 * EXPERT


def test_biases_of_a_gpt_oss_are_counted_by_hand() -> None:
    found = cost_model(mixture("gpt-oss")).costs(np.array([[1, 0] * 4, [1, 5] * 4]))
    own = {name: float(values[1] - values[0]) for name, values in found.items()}
    expert, norm = EXPERT + 2 * CHANNELS + HIDDEN, HIDDEN
    assert own["params"] == 4 * (norm + 5 * (expert + HIDDEN + 1))
    assert own["active"] == 4 * (norm + 2 * expert + 5 * (HIDDEN + 1))
    assert own["macs"] == 4 * (2 * EXPERT + 5 * HIDDEN)
    assert own["loading"] == 2 * 4 * 2 * expert


@families
def test_weights_are_those_of_layers_cut_for_real(name: str) -> None:
    structure = mixture(name)
    configurations = random_configurations(structure, 6)
    found = cost_model(structure).costs(configurations)
    model = copy.copy(structure.backbone.model)
    for row, params, size in zip(configurations, found["params"], found["size"], strict=True):
        model = copy.deepcopy(structure.backbone.model)
        parent, _, stack = structure.backbone.stack.path.rpartition(".")
        layers = nn.ModuleList(cut_layers(structure, row).values())
        setattr(model.get_submodule(parent), stack, layers)
        parameters, held = tensors(model)
        assert params == sum(weight.numel() for weight in parameters)
        others = sum(weight.numel() for weight in held) - params
        assert size == 2 * params + 4 * others  # buffers stay in float32


@families
def test_macs_are_half_of_the_flops_of_layers_cut_for_real(name: str) -> None:
    structure = mixture(name)
    backbone, inputs = structure.backbone, structure.backbone.enter(torch.arange(CONTEXT)[None])
    for row in random_configurations(structure, 4):
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), counter:
            hidden = inputs.hidden
            for index, layer in cut_layers(structure, row).items():
                with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                    hidden = backbone.run_layer(layer, hidden, inputs.calls[index])
            backbone.logits(backbone.leave(hidden))
        counted = counter.get_total_flops() / 2 / CONTEXT
        assert cost_model(structure).costs(row[None])["macs"][0] == counted


@pytest.mark.parametrize("name", ["qwen2-moe", "deepseek-v3", "gpt-oss"])
def test_zeros_shrink_what_is_counted_without_them_and_nothing_else(name: str) -> None:
    structure = mixture(name)
    configurations = random_configurations(structure, 8, len(SPARSE))
    found = cost_model(structure, SPARSE).costs(configurations)
    sparse = ConfigurationTables.of(structure.components, ways(structure, SPARSE))
    dense_weights = ConfigurationTables.of(structure.components, ways(structure))
    kept, chosen = sparse.units(configurations), sparse.options_index(configurations)
    plain = cost_model(structure).costs(dense_weights.index(kept, chosen // len(SPARSE)))
    for metric in set(plain) - {"nonzero", "packed"}:
        np.testing.assert_array_equal(found[metric], plain[metric])
    for row, (counts, block_options) in enumerate(zip(kept, chosen, strict=True)):
        zeros, saved = 0, 0
        layers = cut_layers(structure, dense_weights.index(counts, chosen[row] // len(SPARSE)))
        for component, count, options in zip(
            structure.components, counts, block_options, strict=True
        ):
            pattern = SPARSE[options % len(SPARSE)]
            if not count:
                continue
            paths = [(p.path + ".weight", False) for p in component.projections]
            if isinstance(component, Mixture):
                stacks = [s for s in component.stacks if s.role in ("up", "down")]
                paths = [(stack.path, stack.transposed) for stack in stacks]
            for path, transposed in paths:
                weight = layers[component.layer].get_parameter(path)
                for expert in weight if weight.ndim == 3 else [weight]:
                    matrix = torch.ones(tuple(expert.T.shape if transposed else expert.shape))
                    matrix = matrix.bfloat16()
                    gone = pattern.zeros(*matrix.shape)
                    matrix.view(-1)[:gone] = 0
                    bits, rest = pack(matrix)
                    zeros += gone
                    saved += max(0, matrix.nbytes - bits.nbytes - rest.nbytes)
        assert found["nonzero"][row] == plain["params"][row] - zeros
        assert found["packed"][row] == plain["size"][row] - saved


ALIKE = Holds(
    equal={
        "attention": frozenset({"units"}),
        "experts": frozenset({"units", "channels", "top_k"}),
        "shared": frozenset({"units"}),
    },
    whole_layers=True,
)


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ("heads,experts,channels,top_k,drops,2:4", HOLDS_ALL),
        ("layers,top_k", HOLDS_ALL),
        ("heads,experts,channels,top_k,drops,2:4", ALIKE),
        ("heads,experts,channels,top_k,drops", replace(ALIKE, whole_layers=False)),
        ("heads,experts,channels,top_k", ALIKE),
    ],
)
@pytest.mark.parametrize("name", ["mixtral", "deepseek-v3", "phi-moe"])
def test_joint_costs_add_up_to_the_costs_but_for_shared_norms(
    name: str, words: str, holds: Holds
) -> None:
    structure = mixture(name)
    components, choices = structure.components, Choices.parse(words)
    patterns = (DENSE, SparsityPattern(keep=2, group=4)) if "2:4" in words else (DENSE,)
    orders = [np.arange(component.member_count) for component in components]
    space = build_space(
        identify(structure.backbone.model),
        components,
        orders,
        choices=choices,
        mlp_step=4,
        patterns=patterns,
        holds=holds,
    )
    judge = CostModel(
        structure,
        stored=StoredFormat(dtype=torch.bfloat16),
        context=CONTEXT,
        block_options=space.block_options,
    )
    rng = np.random.default_rng(2)
    genomes = rng.integers(space.top_levels + 1, size=(20, len(space.sites)))
    genomes = np.concatenate([genomes, space.top_levels[None]])
    configurations = space.configurations(genomes)
    found, none = judge.costs(configurations), judge.costs(configurations[:1] * 0)
    starts = [span.start for span in structure.spans]
    there = np.logical_or.reduceat(configurations > 0, starts, axis=1)
    norms = there @ np.array([HIDDEN * len(layer.shared) for layer in structure.layers])
    shares = {"params": 1, "nonzero": 1, "active": 1, "size": 2, "packed": 2, "active_size": 2}
    for metric, values in found.items():
        if METRICS[metric].reading_of:  # of what adds up
            continue
        joints = judge.joint_costs(metric, space)
        assert [sites for sites, _ in joints] == list(space.groups)
        added = sum(table[tuple(genomes[:, sites].T)] for sites, table in joints)
        wanted = values - none[metric] - shares.get(metric, 0) * norms
        np.testing.assert_allclose(added, wanted, err_msg=metric)


def test_a_dense_model_has_neither_active_parameters_nor_loading() -> None:
    costs = CostModel(
        tiny.llama(), stored=StoredFormat(dtype=torch.bfloat16), context=CONTEXT
    ).dense()
    assert not {"active", "active_size", "loading"} & set(costs)
