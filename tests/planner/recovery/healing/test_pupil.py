"""A model is made ready to be trained, however much of it is kept in memory meanwhile."""

import pytest
import torch

from planner.recovery.healing.pupil import by_layer, enrol
from planner.settings.heal import HealSettings
from search_spaces.errors import ModelError
from search_spaces.structure.backbone import Backbone
from tests.models.factory import make_model
from tests.models.moe_families import MOE_FAMILIES
from tests.models.tiny import llama
from tests.planner.recovery.healing.students import FRESH, TEXT, worse


def _gradients(*, gradient_checkpointing: bool) -> dict[str, torch.Tensor]:
    teacher = llama().backbone
    student = worse(teacher)
    settings = HealSettings.checked(model="run", gradient_checkpointing=gradient_checkpointing)
    pupil = enrol(student.model, teacher, FRESH, settings)
    pupil.backward(0, TEXT[:4])
    return {name: p.grad for name, p in pupil.parameters.items() if p.grad is not None}


def test_gradients_are_the_same_if_layers_are_computed_twice() -> None:
    plain, twice = (_gradients(gradient_checkpointing=again) for again in (False, True))
    assert plain.keys() == twice.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(twice[name], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("train", ["all", "norms", "lora"])
def test_experts_are_trained_and_all_of_it_is_of_layers(train: str, notices: list[str]) -> None:
    teacher = Backbone(make_model(MOE_FAMILIES["mixtral"].config()))
    student = worse(teacher)
    settings = HealSettings.checked(model="run", train=train)
    pupil = enrol(student.model, teacher, FRESH, settings)
    before = pupil.look().mean()
    optimiser = torch.optim.AdamW(pupil.parameters.values(), lr=1e-3)
    for step in range(6):
        pupil.backward(step, TEXT[4 * step : 4 * step + 4])
        optimiser.step()
        optimiser.zero_grad()
    assert pupil.look().mean() < before
    layers = by_layer(teacher.model, pupil.part.weights())
    assert layers.keys() == set(range(len(teacher.layers)))
    stacks = [name for tensors in layers.values() for name, t in tensors.items() if t.ndim == 3]
    assert bool(stacks) == (train == "all")
    said = any("leaves matrices of experts that are stacked" in line for line in notices)
    assert said == (train == "lora")


def test_a_streamed_model_is_recovered_in_closed_form_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher = llama().backbone
    monkeypatch.setattr(Backbone, "streamed", property(lambda _: True))
    settings = HealSettings.checked(model="run")
    with pytest.raises(ModelError, match=r"whole model in memory.*planner recover"):
        enrol(worse(teacher).model, teacher, FRESH, settings)
