"""Layers that are trained come nearer to what they should give, and keep what they must keep."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from planner.recovery.block import STEP_TOKENS, block
from planner.recovery.cut_plan import CutPlan
from planner.recovery.fitting_text import FittingText
from search_spaces.errors import ModelError
from search_spaces.models.tensors import tensor_at
from search_spaces.progress import NO_PROGRESS
from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.recovery.prepared_plans import kl_of, prepared_model, smaller_plan


def _changes(plan: CutPlan, text: FittingText) -> dict[int, dict[str, Tensor]]:
    return {index: dict(changed) for index, changed in block(plan, text, NO_PROGRESS)}


def test_a_plan_comes_nearer_with_norms_and_inputs_trained_too(
    saved_llama: Path, tmp_path: Path
) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "run", compensate="none")
    plan, text = smaller_plan(prepared, first=4), FittingText.of(prepared)
    changes = _changes(plan, text)
    assert min(changes) == 4
    assert {"input_layernorm.weight", "self_attn.q_proj.weight"} <= changes[4].keys()
    assert kl_of(plan, text.apart, changes) < kl_of(plan, text.apart, {})


def test_experts_are_trained_where_they_run(tmp_path: Path) -> None:
    model = save_model(make_model(MOE_FAMILIES["mixtral"].config()), tmp_path / "model")
    prepared = prepared_model(model, tmp_path / "run", compensate="none")
    plan, text = smaller_plan(prepared, first=3), FittingText.of(prepared)
    changes = _changes(plan, text)
    assert changes.keys() == {3}
    assert "mlp.experts.down_proj" in changes[3]
    assert kl_of(plan, text.apart, changes) < kl_of(plan, text.apart, {})


def test_masks_fit_text_apart_that_is_less_than_a_step(tmp_path: Path) -> None:
    """Gemma 3 reads the last tokens alone, by masks with a row for each window."""
    model = save_model(make_model(FAMILIES["gemma3"].config()), tmp_path / "model")
    prepared = prepared_model(model, tmp_path / "run", compensate="none")
    plan, text = smaller_plan(prepared, first=4), FittingText.of(prepared)
    assert len(text.apart) * text.apart.shape[1] < STEP_TOKENS
    assert kl_of(plan, text.apart, _changes(plan, text)) < kl_of(plan, text.apart, {})


def test_zeros_stay_and_what_has_a_format_is_not_trained(
    saved_llama: Path, tmp_path: Path
) -> None:
    prepared = prepared_model(
        saved_llama, tmp_path / "run", space="channels,sparsity,int8", sparsity_step=50
    )
    plan, text = smaller_plan(prepared, 0.0, first=5), FittingText.of(prepared)
    changes = _changes(plan, text)
    layer = plan.layer(5)
    assert changes[5]
    span = prepared.dense.structure.spans[5]
    formats = [plan.options(position).format.bits for position in range(span.start, span.stop)]
    assert set(formats) == {8}  # so that norms alone are left
    assert all(tensor_at(layer, path).ndim == 1 for path in changes[5])

    prepared = prepared_model(
        saved_llama, tmp_path / "sparse", space="channels,sparsity", sparsity_step=50
    )
    plan = smaller_plan(prepared, 0.0, first=5)
    layer, changes = plan.layer(5), _changes(plan, FittingText.of(prepared))
    zeros = {path: tensor_at(layer, path) == 0 for path in changes[5]}
    assert sum(int(is_zero.sum()) for is_zero in zeros.values()) > 100
    assert all(not changes[5][path][is_zero].any() for path, is_zero in zeros.items())


def test_a_layer_that_training_harms_stays_as_it_was(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.recovery.block.LEARNING_RATE", 10.0)
    prepared = prepared_model(saved_llama, tmp_path / "run")
    plan = smaller_plan(prepared, first=4)
    assert not any(_changes(plan, FittingText.of(prepared)).values())


def test_a_model_without_gradients_is_refused(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CutPlan.layer

    def without_gradients(plan: CutPlan, index: int) -> nn.Module:
        layer = whole(plan, index)
        forward = layer.forward
        layer.forward = torch.no_grad()(forward)
        return layer

    monkeypatch.setattr(CutPlan, "layer", without_gradients)
    prepared = prepared_model(saved_llama, tmp_path / "run")
    plan = smaller_plan(prepared, first=4)
    with pytest.raises(ModelError, match="recover it in closed form, by `refit`"):
        _changes(plan, FittingText.of(prepared))


def test_memory_that_runs_out_is_not_taken_for_a_model_without_gradients(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Tensor, "backward", exhausted)
    prepared = prepared_model(saved_llama, tmp_path / "run")
    with pytest.raises(torch.OutOfMemoryError):
        _changes(smaller_plan(prepared, first=5), FittingText.of(prepared))
