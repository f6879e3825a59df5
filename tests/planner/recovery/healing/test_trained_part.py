"""What is trained of a model: its shapes and its zeros stay, and nothing else changes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from planner.recovery.healing.distillation import Distillation, Teacher
from planner.recovery.healing.trained_part import trained_part
from planner.settings.heal import HealSettings
from search_spaces.structure.backbone import Backbone
from tests.models.families import FAMILIES
from tests.models.tiny import llama
from tests.planner.recovery.healing.students import TEXT, worse

ALL = ("all", "norms", "lora")


def _settings(train: str) -> HealSettings:
    return HealSettings.checked(model="run", train=train, lora_rank=2)


def _sparse(model: PreTrainedModel) -> None:
    """Have every third column of each matrix of the layers be zero."""
    for name, weight in model.named_parameters():
        if ".layers." in name and weight.ndim > 1:
            weight.data[:, ::3] = 0.0


def _trained(student: Backbone, teacher: Backbone, train: str, fixed: tuple[str, ...] = ()) -> Any:
    part = trained_part(
        student.model, _settings(train), dtype=torch.float32, fixed=frozenset(fixed)
    )
    distillation = Distillation(Teacher(teacher))
    optimiser = torch.optim.AdamW(part.parameters.values(), lr=1e-2, weight_decay=0.1)
    for step in range(3):
        distillation.backward(student, TEXT[2 * step : 2 * step + 2])
        optimiser.step()
        optimiser.zero_grad()
    return part


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("train", ALL)
def test_zeros_and_shapes_stay(train: str) -> None:
    teacher = llama().backbone
    student = worse(teacher)
    _sparse(student.model)
    before = _tensors(student.model)
    weights = _trained(student, teacher, train).weights()
    assert weights
    for name, weight in weights.items():
        assert weight.shape == before[name].shape
        assert not torch.equal(weight, before[name])
        if weight.ndim > 1:
            assert bool((weight[before[name] == 0] == 0).all())
            assert float((weight == 0).float().mean()) == pytest.approx(
                float((before[name] == 0).float().mean())
            )


@pytest.mark.parametrize("train", ALL)
@pytest.mark.parametrize("sparse", [False, True])
def test_weights_compute_what_was_trained(train: str, sparse: bool) -> None:
    teacher = llama().backbone
    student = worse(teacher)
    if sparse:
        _sparse(student.model)
    clean = copy.deepcopy(student.model)
    weights = _trained(student, teacher, train).weights()
    missing = clean.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    with torch.no_grad():
        expected = student.model(TEXT[:2]).logits
        # a product of matrices and one of their sum, in float32
        torch.testing.assert_close(clean(TEXT[:2]).logits, expected, rtol=1e-4, atol=1e-4)


def test_what_is_not_in_layers_stays_the_dense_models() -> None:
    student = worse(llama(tied=False).backbone)
    part = trained_part(student.model, _settings("all"), dtype=torch.float32, fixed=frozenset())
    left = {name for name, _ in student.model.named_parameters()} - part.parameters.keys()
    assert left == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def test_norms_are_vectors_alone() -> None:
    model = FAMILIES["opt"].structure(layers=2).backbone.model
    part = trained_part(model, _settings("norms"), dtype=torch.float32, fixed=frozenset())
    assert {weight.ndim for weight in part.parameters.values()} == {1}
    assert any(name.endswith(".bias") for name in part.parameters)
    assert any("layer_norm" in name for name in part.parameters)


@pytest.mark.parametrize("train", ["all", "lora"])
def test_fixed_weights_stay_as_they_are(train: str) -> None:
    teacher = llama().backbone
    student = worse(teacher)
    fixed = tuple(name for name, _ in student.model.named_parameters() if "down_proj" in name)
    weights = _trained(student, teacher, train, fixed).weights()
    assert weights
    assert not weights.keys() & set(fixed)


def test_transposed_matrices_get_low_rank_updates() -> None:
    """GPT-2 stores its matrices the other way round."""
    teacher = FAMILIES["gpt2"].structure(layers=2).backbone
    student = worse(teacher)
    clean = copy.deepcopy(student.model)
    weights = _trained(student, teacher, "lora").weights()
    clean.load_state_dict(weights, strict=False)
    with torch.no_grad():
        expected = student.model(TEXT[:2]).logits
        torch.testing.assert_close(clean(TEXT[:2]).logits, expected, rtol=1e-4, atol=1e-4)
