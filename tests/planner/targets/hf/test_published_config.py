"""A written config says what holds for what is written, and readers of two versions agree."""

import copy
from typing import Any

import pytest
from transformers import Gemma3TextConfig, GPTNeoXConfig, LlamaConfig, PhiConfig, Qwen2Config

from planner.targets.hf.published_config import VERSION_5, VERSION_5_15, published, spelt_for_all

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def spelt(config: Any) -> tuple[dict[str, Any], str]:
    return spelt_for_all({**config.to_dict(), "dtype": "bfloat16"}, type(config))


def test_what_is_true_of_the_source_alone_is_left_out() -> None:
    config = {
        "_name_or_path": "/home/someone/model",
        "auto_map": {"AutoConfig": "own.Config"},
        "custom_pipelines": {"x": {"impl": "own.Pipeline"}},
        "quantization_config": {"bits": 4},
        "text_config": {"auto_map": {"AutoModel": "own.Model"}, "hidden_size": 8},
        "id2label": {0: "a"},
        "hidden_size": 8,
    }
    assert published(config, []) == {
        "text_config": {"hidden_size": 8},
        "id2label": {0: "a"},
        "hidden_size": 8,
    }


@pytest.mark.parametrize(
    "name",
    ["num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "use_mtp"],
)
def test_heads_of_later_tokens_that_are_not_there_are_none(name: str) -> None:
    for value in (1, True):
        assert not published({name: value}, ["model.layers.0.mlp.up_proj.weight"])[name]
    assert published({name: 2}, ["mtp.layers.0.weight"])[name] == 2


def test_other_counts_stay() -> None:
    assert published({"num_hidden_layers": 3, "attempt": 1}, []) == {
        "num_hidden_layers": 3,
        "attempt": 1,
    }


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
        LlamaConfig(rope_parameters=LLAMA3, max_position_embeddings=256),
        PhiConfig(
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.25,
            }
        ),
        Qwen2Config(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}),
    ],
    ids=["default", "llama3", "partial", "linear"],
)
def test_rope_is_spelt_for_both_versions(config: Any) -> None:
    written, requires = spelt(config)
    rope = config.rope_parameters
    assert not requires
    assert written["rope_theta"] == rope["rope_theta"]
    assert written.get("partial_rotary_factor") == rope.get("partial_rotary_factor")
    scaling = written.get("rope_scaling") or {"rope_type": "default"}
    apart = {"rope_theta", "partial_rotary_factor"}
    assert scaling == {name: value for name, value in rope.items() if name not in apart}
    again = type(config).from_dict(copy.deepcopy(written))
    assert again.rope_parameters == rope
    assert str(again.dtype).endswith("bfloat16")
    assert written["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize(
    "config",
    [
        GPTNeoXConfig(),  # calls its base rotary_emb_base
        Gemma3TextConfig(num_hidden_layers=6),  # two bases
        Qwen2Config(
            num_hidden_layers=2,
            use_sliding_window=True,
            layer_types=["full_attention", "sliding_attention"],
        ),
    ],
    ids=["own names", "by layer", "mixed layers"],
)
def test_what_only_version_5_reads_as_meant_says_so(config: Any) -> None:
    written, requires = spelt(config)
    assert requires == VERSION_5
    assert "rope_scaling" not in written


def test_a_family_without_rope_is_read_by_all() -> None:
    written, requires = spelt_for_all({"dtype": "float32"}, LlamaConfig)
    assert (written, requires) == ({"dtype": "float32", "torch_dtype": "float32"}, "")


def test_layers_that_differ_are_read_since_then() -> None:
    config = {"dtype": "float32", "per_layer_config": {"1": {"intermediate_size": 8}}}
    assert spelt_for_all(config, LlamaConfig)[1] == VERSION_5_15
