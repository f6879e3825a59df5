"""What is seen of experts adds up to what they give."""

import copy

import pytest
import torch

from search_spaces.structure.expert_hooks import ExpertRun, Routed, watched_experts
from tests.models.moe_families import CHANNELS, EACH_MOE_FAMILY, mixture
from tests.models.parts import experts_in


@pytest.mark.parametrize("name", EACH_MOE_FAMILY)
@torch.no_grad()
def test_weighed_outputs_add_up_to_what_the_holder_gives(name: str) -> None:
    structure = mixture(name)
    backbone, experts = structure.backbone, experts_in(structure.layers[-1])
    assert experts is not None
    layer = backbone.layers[-1]
    before = [name for name, _ in layer.named_parameters()]
    routings: list[Routed] = []
    runs: list[ExpertRun] = []
    given: list[torch.Tensor] = []
    holder = layer.get_submodule(experts.holder)
    hook = holder.register_forward_hook(lambda _m, _a, output: given.append(output))
    inputs = backbone.enter(torch.arange(40).reshape(2, 20))
    given.clear()
    with watched_experts(layer, experts, routings.append, runs.append):
        seen = backbone.run_layer(layer, inputs.hidden, inputs.calls[-1])
    hook.remove()
    assert torch.equal(seen, backbone.run_layer(layer, inputs.hidden, inputs.calls[-1]))
    assert [name for name, _ in layer.named_parameters()] == before

    (routing,) = routings
    assert routing.logits.shape == (40, experts.member_count)
    assert routing.chosen.shape == routing.weights.shape == (40, experts.top_k)
    assert [run.expert for run in runs] == sorted(set(routing.chosen.flatten().tolist()))
    total = torch.zeros_like(routing.hidden)
    for run in runs:
        assert run.channels.shape == (len(run.tokens), CHANNELS)
        assert torch.equal(run.inputs, routing.hidden[run.tokens])
        total.index_add_(0, run.tokens, run.outputs * run.weights[:, None])
    torch.testing.assert_close(total, given[0].reshape(total.shape), rtol=1e-5, atol=1e-6)


def test_an_error_leaves_the_layer_as_it_was() -> None:
    structure = copy.deepcopy(mixture("mixtral"))
    layer, component = structure.backbone.layers[-1], experts_in(structure.layers[-1])
    assert component is not None
    weights = dict(layer.named_parameters())
    with pytest.raises(ValueError, match="out"), watched_experts(layer, component):
        raise ValueError("out")
    assert dict(layer.named_parameters()).keys() == weights.keys()
    assert list(weights) == [name for name, _ in layer.named_parameters()]
