"""Derivatives of the NLL against those that autograd gives of the model's own loss."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluators.collectors import collect_statistics
from search_spaces.errors import DataError, ModelError
from search_spaces.statistics import StatisticName
from search_spaces.structure.linear import as_matrix, matrix
from tests.models.candidates import random_tokens
from tests.models.factory import twin
from tests.models.families import dense
from tests.models.streamed import opened, save_sharded

WANTED: frozenset[StatisticName] = frozenset({"gradient", "gradient_second_moment", "gate_fisher"})
WINDOWS = random_tokens(batch=3)
FAMILIES = ("llama", "gpt2", "opt", "phi3", "phi")


def by_autograd(name: str) -> list[dict[tuple[int, str], Tensor]]:
    """For each window the gradient of every matrix, in float64, by layer and path."""
    structure = twin(dense(name))
    found = []
    for window in WINDOWS:
        model = structure.backbone.model.requires_grad_(requires_grad=True)
        model.zero_grad()
        model(input_ids=window[None], labels=window[None]).loss.backward()
        slopes = {}
        for component in structure.components:
            layer = structure.backbone.layers[component.layer]
            for projection in component.projections:
                linear = layer.get_submodule(projection.path)
                assert isinstance(linear.weight, Tensor)
                assert linear.weight.grad is not None
                slope = as_matrix(linear, linear.weight.grad).double()
                slopes[component.layer, projection.path] = slope.clone()
        found.append(slopes)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_are_those_of_the_models_own_loss(name: str) -> None:
    structure, expected = dense(name), by_autograd(name)
    found = collect_statistics(structure, WINDOWS, WANTED)
    for component in structure.components:
        for projection in component.projections:
            at = projection.path
            slopes = torch.stack([window[component.layer, at] for window in expected])
            mean = found[component.layer]["gradient", at]
            squares = found[component.layer]["gradient_second_moment", at]
            assert mean.dtype == squares.dtype == torch.float32
            scale = float(slopes.abs().max())
            torch.testing.assert_close(mean.double(), slopes.mean(0), rtol=1e-3, atol=1e-5 * scale)
            torch.testing.assert_close(
                squares.double(), slopes.square().mean(0), rtol=1e-3, atol=1e-5 * scale**2
            )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_gates_slope_is_what_its_columns_slopes_add_up_to(name: str) -> None:
    """A gate scales the columns of its unit: the chain rule gives its slope from theirs."""
    structure, expected = dense(name), by_autograd(name)
    found = collect_statistics(structure, WINDOWS, frozenset({"gate_fisher"}))
    for component in structure.components:
        output = component.projections[-1]
        linear = structure.backbone.layers[component.layer].get_submodule(output.path)
        slopes = []
        for window in expected:
            by_column = (window[component.layer, output.path] * matrix(linear).double()).sum(dim=0)
            slopes.append(by_column[torch.from_numpy(output.by_unit)].sum(dim=1))
        fisher = torch.stack(slopes).square().mean(dim=0)
        got = found[component.layer]["gate_fisher", output.path]
        assert got.shape == (component.unit_count,)
        tolerance = 1e-4 * float(fisher.max())
        torch.testing.assert_close(got.double(), fisher, rtol=1e-3, atol=tolerance)


def test_only_what_is_asked_for_is_kept_and_no_trace_is_left() -> None:
    structure = dense("llama")
    before = {name: w.clone() for name, w in structure.backbone.model.named_parameters()}
    with torch.inference_mode():  # whatever the caller runs in
        found = collect_statistics(structure, WINDOWS, frozenset({"gradient"}))
    names = {name for layer in found for name, _ in layer}
    assert names == {"gradient", "tokens", "hidden_energy"}
    for name, weight in structure.backbone.model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None
        assert not weight.requires_grad
    assert not any(m._forward_pre_hooks for m in structure.backbone.model.modules())


def test_a_failing_pass_leaves_no_trace_either(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = dense("llama")

    def fail(*_: object) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(structure.backbone, "logits", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        collect_statistics(structure, WINDOWS, WANTED)
    model = structure.backbone.model
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["gradient", "gate_fisher", "removal_nll"])
def test_windows_without_a_next_token_are_refused(name: StatisticName) -> None:
    with pytest.raises(DataError, match="of at least two tokens, got 3 of 1"):
        collect_statistics(dense("llama"), WINDOWS[:, :1], frozenset({name}))


def test_a_streamed_model_has_none_and_says_what_to_do(tmp_path: Path) -> None:
    save_sharded("llama", tmp_path)
    structure = opened(tmp_path, "always").structure
    with pytest.raises(ModelError, match=r"`gradient` was asked for; set `--offload never`"):
        collect_statistics(structure, WINDOWS, frozenset({"gradient", "gram"}))
