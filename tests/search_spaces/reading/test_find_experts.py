"""Experts are found by shape and trial: as a reader of each family's source would say of them."""

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.errors import StructureError
from search_spaces.reading.read import read_structure
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from tests.models.factory import make_model
from tests.models.moe_families import CHANNELS, MOE_FAMILIES, MoeFamily, mixture, moe_family_params
from tests.models.parts import experts_in


@pytest.fixture(
    params=[moe_family_params(family, name=name) for name, family in MOE_FAMILIES.items()]
)
def family(request: pytest.FixtureRequest) -> MoeFamily:
    chosen = request.param
    assert isinstance(chosen, MoeFamily)
    return chosen


def _mixtures(structure: ModelStructure) -> list[int]:
    return [index for index, layer in enumerate(structure.layers) if experts_in(layer) is not None]


def test_layers_have_experts_where_the_family_has_them(family: MoeFamily) -> None:
    structure = mixture(family.name)
    dense = [layer for layer in structure.layers if experts_in(layer) is None]
    assert len(dense) == family.dense_layers
    assert len(_mixtures(structure)) == len(structure.layers) - family.dense_layers
    spans = [len(layer.components) for layer in structure.layers]
    assert [span.stop - span.start for span in structure.spans] == spans
    assert structure.spans[-1].stop == len(structure.components)


def test_experts_are_what_the_source_says(family: MoeFamily) -> None:
    structure = mixture(family.name)
    for index in _mixtures(structure):
        experts = experts_in(structure.layers[index])
        assert experts is not None
        assert experts.name == f"layers.{index}.experts"
        assert (experts.holder, experts.router) == (family.holder, family.router)
        assert (experts.group_count, experts.top_k) == (family.groups, family.top_k)
        assert experts.lowest == family.lowest
        assert experts.member_count == experts.unit_count * family.groups
        assert experts.channel_count == CHANNELS
        assert bool(experts.top_k_attributes) is family.top_k_varies
        up, down = experts.stack("up"), experts.stack("down")
        assert up.transposed is down.transposed is family.transposed
        whole = np.arange(CHANNELS)
        expected = np.repeat(whole, 2) if family.interleaved else np.tile(whole, 2)
        assert np.array_equal(up.channels, expected)
        assert np.array_equal(down.channels, whole)


def test_a_shared_expert_is_an_mlp_next_to_the_others(family: MoeFamily) -> None:
    structure = mixture(family.name)
    for index in _mixtures(structure):
        layer = structure.layers[index]
        names = [component.kind for component in layer.components]
        assert names == ["attention", "experts", *(["shared"] if family.shared else [])]
        if family.shared:
            assert layer.feed_forward[1].module == family.shared
            assert len(layer.feed_forward[1].projections) == 3


def test_a_router_that_does_not_fit_its_experts_is_refused() -> None:
    model = make_model(MOE_FAMILIES["mixtral"].config())
    gate = model.get_submodule("model.layers.0.mlp.gate")
    gate.weight = nn.Parameter(torch.randn(6, 32), requires_grad=False)
    with pytest.raises(StructureError, match=r"a row for each of the 8 experts, got \(6, 32\)"):
        read_structure(model)


def test_experts_that_all_run_cannot_go_but_fewer_may_run() -> None:
    config = MOE_FAMILIES["qwen2-moe"].config()
    config.num_experts_per_tok = 8
    component = experts_in(read_structure(make_model(config)).layers[0])
    assert component is not None
    assert isinstance(component, Mixture)
    assert component.lowest == 8
    assert component.top_k_attributes == (("mlp.gate", "top_k"),)
