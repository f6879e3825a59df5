"""The divergence, its gradient, and models that cannot be trained by it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from planner.recovery.healing.distillation import Distillation, Teacher, check_differentiable
from search_spaces.errors import ModelError
from search_spaces.structure.backbone import Backbone
from tests.models.tiny import llama
from tests.planner.recovery.healing.students import FRESH, TEXT, worse


@pytest.fixture
def teacher() -> Backbone:
    return llama().backbone


def _divergence(teacher: Backbone, student: Backbone, tokens: Tensor, reverse: float) -> Tensor:
    """By the models' own forward, all at once."""
    with torch.no_grad():
        theirs = teacher.model(tokens).logits[:, :-1].log_softmax(dim=-1)
    ours = student.model(tokens).logits[:, :-1].log_softmax(dim=-1)
    forward = (theirs.exp() * (theirs - ours)).sum(dim=-1).mean()
    backward = (ours.exp() * (ours - theirs)).sum(dim=-1).mean()
    total: Tensor = (1 - reverse) * forward + reverse * backward
    return total


@pytest.mark.parametrize("reverse", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_gradient_is_that_of_the_mean_divergence(
    teacher: Backbone, reverse: float, at_once: int
) -> None:
    student = worse(teacher)
    parameters = [p.requires_grad_() for p in student.model.model.layers.parameters()]
    expected = _divergence(teacher, student, TEXT[:4], reverse)
    gradients = torch.autograd.grad(expected, parameters)
    distillation = Distillation(Teacher(teacher), reverse=reverse, windows_at_once=at_once)
    assert distillation.backward(student, TEXT[:4]) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        # float32 sums in another order
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_divergence_by_window_is_the_forward_one(teacher: Backbone) -> None:
    student = worse(teacher)
    found = Distillation(Teacher(teacher), reverse=0.7).by_window(student, FRESH)
    with torch.no_grad():
        expected = [float(_divergence(teacher, student, row[None], 0.0)) for row in FRESH]
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_teacher_runs_once_for_what_it_keeps(teacher: Backbone) -> None:
    counted = Teacher(teacher, cache_bytes=2 * TEXT.shape[1] * 32 * 4)  # two windows
    first = counted.final(TEXT[:3])
    runs: list[int] = []
    hook = teacher.decoder.register_forward_hook(
        lambda _module, _args, kwargs, _output: runs.append(len(kwargs["input_ids"])),
        with_kwargs=True,
    )
    with hook:
        again = counted.final(TEXT[:3])
    assert runs == [1]
    torch.testing.assert_close(again, first)


def test_memory_that_runs_out_makes_parts_smaller(
    teacher: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = worse(teacher)
    parameters = [p.requires_grad_() for p in student.model.model.layers.parameters()]
    gradients = torch.autograd.grad(_divergence(teacher, student, TEXT[:4], 0.0), parameters)
    last = student.layers[-1]
    forward: Any = last.forward

    def small(hidden: Tensor, **options: Any) -> Any:
        if len(hidden) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(hidden, **options)

    monkeypatch.setattr(last, "forward", small)
    Distillation(Teacher(teacher)).backward(student, TEXT[:4])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_a_model_that_hides_its_gradient_is_refused(
    teacher: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = worse(teacher)
    weights = dict(student.model.model.layers.named_parameters())
    for weight in weights.values():
        weight.requires_grad_()
    distillation = Distillation(Teacher(teacher))
    check_differentiable(distillation, student, TEXT, list(weights))
    assert all(weight.grad is None for weight in weights.values())
    for layer in student.layers:
        monkeypatch.setattr(layer, "forward", torch.no_grad()(layer.forward))
    with pytest.raises(ModelError, match=r"differentiated.*planner recover"):
        check_differentiable(distillation, student, TEXT, list(weights))


def test_a_model_with_nothing_to_train_is_refused(teacher: Backbone) -> None:
    student = Backbone(copy.deepcopy(teacher.model))
    with pytest.raises(ModelError, match="weights to train"):
        check_differentiable(Distillation(Teacher(teacher)), student, TEXT, [])


def test_kl_of_logits_of_one_token() -> None:
    """Two words, by hand: KL(p ‖ q) of p = (3/4, 1/4) and q = (1/2, 1/2)."""
    from planner.recovery.healing.distillation import _divergence as divergence

    ours, theirs = torch.zeros(1, 2), torch.log(torch.tensor([[3.0, 1.0]]))
    expected = 0.75 * torch.log(torch.tensor(1.5)) + 0.25 * torch.log(torch.tensor(0.5))
    torch.testing.assert_close(divergence(ours, theirs, 0.0), expected)
