"""What llama.cpp holds of a family is said before anything is searched or written."""

from typing import Any

import pytest

from planner.targets.gguf.gguf_families import refusal_of, varied_architecture
from planner.targets.gguf.gguf_target import GgufTarget
from search_spaces.space.block_options import DENSE_OPTIONS
from tests.models.families import FAMILIES, dense
from tests.models.moe_families import MOE_FAMILIES


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("opt", {}, "this is `opt`"),
        ("mistral", {}, "sliding window"),
        ("llama", {"hidden_act": "gelu"}, "`hidden_act` of 'silu' for granted, and it is 'gelu'"),
        ("qwen3", {"attention_bias": True}, "`attention_bias` of False"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "stretched by `yarn`",
        ),
    ],
)
def test_a_model_that_no_architecture_computes_is_refused(
    family: str, options: dict[str, Any], reason: str
) -> None:
    structure = FAMILIES[family].structure(layers=1, **options)
    assert reason in refusal_of(structure)
    assert GgufTarget().holds(structure).refuses_model == refusal_of(structure)


def test_layers_of_llamas_may_differ_in_any_way() -> None:
    for name in ("llama", "qwen2"):
        holds = GgufTarget().holds(dense(name))
        assert not holds.refuses_model
        assert not holds.equal
        assert not holds.whole_layers


def test_a_head_of_its_own_leaves_no_architecture_for_a_qwen3_whose_layers_differ() -> None:
    tied = FAMILIES["qwen3"].structure(layers=1, tie_word_embeddings=True)
    assert varied_architecture(tied) is not None
    assert varied_architecture(dense("qwen3")) is None
    holds = GgufTarget().holds(dense("qwen3"))
    assert holds.whole_layers
    assert holds.equal["mlp"] == {"units"}


def test_heads_must_stay_where_they_must_be_as_wide_as_the_hidden_states() -> None:
    holds = GgufTarget().holds(dense("gpt2"))
    attention, mlp = dense("gpt2").components[:2]
    assert "32 wide together" in holds.refuses(attention, 3, DENSE_OPTIONS)
    assert not holds.refuses(attention, 4, DENSE_OPTIONS)
    assert not holds.refuses(attention, 0, DENSE_OPTIONS)
    assert not holds.refuses(mlp, 3, DENSE_OPTIONS)


def test_experts_must_be_as_many_as_wide_and_as_busy_in_each_layer() -> None:
    structure = MOE_FAMILIES["mixtral"].structure(layers=1)
    assert GgufTarget().holds(structure).equal["experts"] == {"units", "channels", "top_k"}
