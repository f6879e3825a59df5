"""Watching one layer run."""

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from search_spaces.reading.probe import LayerProbe
from search_spaces.structure.backbone import probe_tokens
from search_spaces.structure.model import ModelStructure
from tests.models.factory import HEAD_DIM, HEADS
from tests.models.families import dense


@pytest.fixture
def probe(llama: ModelStructure) -> LayerProbe:
    inputs = llama.backbone.enter(probe_tokens(llama.backbone.model))
    layer = llama.backbone.layers[0]
    return LayerProbe(llama.backbone, 0, inputs.calls[0], inputs.hidden, layer)


def test_linear_layers_are_noted_in_the_order_in_which_they_run(probe: LayerProbe) -> None:
    run = probe.run()
    assert list(run.inputs) == [
        *(f"self_attn.{name}_proj" for name in "qkvo"),
        *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
    ]
    weight = probe.layer.get_submodule("mlp.up_proj").weight
    assert isinstance(weight, Tensor)
    torch.testing.assert_close(run.outputs["mlp.up_proj"], run.inputs["mlp.up_proj"] @ weight.T)


def test_the_core_is_measured(probe: LayerProbe) -> None:
    (core,) = probe.run().cores
    assert core.module is probe.layer.get_submodule("self_attn")
    assert core.linears_before == {f"self_attn.{name}_proj" for name in "qkv"}
    assert (core.query_heads, core.groups) == (HEADS, 2)
    assert (core.key_dim, core.value_dim) == (HEAD_DIM, HEAD_DIM)
    assert core.output.shape == (1, 8, HEADS * HEAD_DIM)


def test_outputs_can_be_substituted(probe: LayerProbe) -> None:
    def silent(path: str, output: Tensor) -> Tensor:
        return output * 0 if path in ("self_attn.o_proj", "mlp.down_proj") else output

    assert torch.equal(probe.run(substitute=silent).result, probe.hidden)
    assert not torch.equal(probe.run().result, probe.hidden)


def test_the_graph_can_be_cut_at_the_core(probe: LayerProbe) -> None:
    assert probe.run(leaf_core=True).cores[0].output.is_leaf
    assert probe.run(leaf_core=True).result.requires_grad


def test_nothing_is_left_behind(probe: LayerProbe) -> None:
    before = dict(ALL_ATTENTION_FUNCTIONS)

    def fail(_path: str, _output: Tensor) -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        probe.run(substitute=fail)
    assert dict(ALL_ATTENTION_FUNCTIONS) == before
    assert not any(module._forward_hooks for module in probe.layer.modules())


def test_returned_values_are_counted() -> None:
    structure = dense("llama")
    inputs = structure.backbone.enter(probe_tokens(structure.backbone.model))
    layer = structure.backbone.layers[1]
    probe = LayerProbe(structure.backbone, 1, inputs.calls[1], inputs.hidden, layer)
    assert probe.path == "model.layers.1"
    assert probe.returns("self_attn") == 2
    assert probe.returns("mlp") == 1
