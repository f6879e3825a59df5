"""What a pruned model's output projections should give, by hooks and by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluators.collectors.teacher_student import collect_tuning
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import Statistics
from search_spaces.structure.linear import bias, matrix
from search_spaces.surgery.slice_and_cut import narrowed
from search_spaces.surgery.sort import sort_units_, sorted_as_is
from tests.models.candidates import random_tokens
from tests.models.factory import twin
from tests.models.families import dense
from tests.models.parts import attention_of, mlp_of
from tests.models.pruned_weights import measured, random_orders

TEXT = random_tokens(batch=8, length=12, seed=4)
UNCUT = [2, 48] * 6


def sorted_twin(name: str) -> SortedModel:
    copy = twin(dense(name))
    return sort_units_(copy, random_orders(copy))


def collected(name: str, kept: list[int], **options: object) -> tuple[Statistics, ...]:
    return collect_tuning(sorted_twin(name), kept, TEXT, **options)  # type: ignore[arg-type]


def close(got: Tensor, expected: Tensor) -> bool:
    return torch.allclose(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["llama", "qwen2", "granite", "gemma3", "neox", "opt-post-norm"])
def test_a_student_that_is_the_dense_model_lacks_nothing(name: str) -> None:
    structure = dense(name)
    kept = [component.unit_count for component in structure.components]
    expected = measured(structure, TEXT)
    got = collected(name, kept)
    for component in structure.components:
        path = component.projections[-1].path
        weight = matrix(structure.backbone.layers[component.layer].get_submodule(path))
        gram = expected[component.layer]["gram", path]
        assert close(got[component.layer]["student_gram", path], gram)
        assert close(got[component.layer]["teacher_cross", path], weight @ gram)
        assert int(got[component.layer]["tokens", ""]) == TEXT.numel()


@pytest.mark.parametrize("batch_tokens", [24, 4096])
@pytest.mark.parametrize("name", ["llama", "gpt2", "granite"])
def test_targets_are_what_the_student_lacks(name: str, batch_tokens: int) -> None:
    structure = sorted_twin(name).structure
    kept = [component.unit_count for component in structure.components]
    kept[0], kept[1] = 0, 16
    backbone, component = structure.backbone, structure.components[3]
    output = component.projections[-1]
    linear = backbone.layers[1].get_submodule(output.path)
    seen: list[Tensor] = []
    inputs = backbone.enter(TEXT)
    read = structure.layers

    states = []  # dense, then student
    for first in ([], [(attention_of(read[0]), 0), (mlp_of(read[0]), 16)]):
        hidden = backbone.run_layer(
            narrowed(backbone.layers[0], first), inputs.hidden, inputs.calls[0]
        )
        only_attention = narrowed(backbone.layers[1], [(mlp_of(read[1]), 0)])
        states.append(backbone.run_layer(only_attention, hidden, inputs.calls[1]))
    only_mlp = narrowed(backbone.layers[1], [(attention_of(read[1]), 0)])
    hook = linear.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    goal = backbone.run_layer(only_mlp, states[0], inputs.calls[1])
    backbone.run_layer(only_mlp, states[1], inputs.calls[1])
    hook.remove()
    x = seen[1].flatten(0, -2)
    factor = 0.5 if name == "granite" else 1.0  # its residual multiplier
    missing = (goal - states[1]).flatten(0, -2) / factor
    offset = bias(linear)
    missing = missing if offset is None else missing - offset

    got = collected(name, kept, batch_tokens=batch_tokens)[1]
    back = np.argsort(output.sorted_features(random_orders(structure)[3]))
    assert close(got["student_gram", output.path], (x.T @ x / len(x))[back][:, back])
    assert close(got["teacher_cross", output.path], (missing.T @ x / len(x))[:, back])


def test_students_run_with_levels_of_their_own() -> None:
    zero: PrunedWeights = {"self_attn.o_proj": LinearWeights(torch.zeros(32, 32))}
    silent = collected("llama", UNCUT, student_weights=lambda at, _noted: zero if at == 2 else {})
    dropped = collected("llama", [2, 48, 0, 48, *UNCUT[4:]])
    for one, other in zip(silent, dropped, strict=True):
        assert all(close(one[key], other[key]) for key in one)


def test_layers_that_do_not_split_follow_the_dense_model_alone() -> None:
    whole, narrow = (collected("neox", kept) for kept in ([4, 48] * 6, [2, 16] * 6))
    for one, other in zip(whole, narrow, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_rounding_of_large_hidden_states_is_no_norm() -> None:
    structure = twin(dense("llama"))
    model = structure.backbone.model.to(torch.bfloat16)  # type: ignore[arg-type]
    model.get_input_embeddings().weight.mul_(20)
    narrow = collect_tuning(sorted_as_is(structure), [1, 16, *UNCUT[2:]], TEXT)
    whole = collect_tuning(sorted_as_is(structure), UNCUT, TEXT)
    for path in ("self_attn.o_proj", "mlp.down_proj"):
        # were a norm suspected, the student would not matter
        key = ("teacher_cross", path)
        assert not torch.equal(narrow[1][key], whole[1][key])  # type: ignore[index]
