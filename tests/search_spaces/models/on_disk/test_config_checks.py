"""A config's wrong value is refused by its field, and what it asks of a pass is left aside."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config
from transformers.models.llama4 import Llama4TextConfig

from search_spaces.errors import ModelError, quoted
from search_spaces.models.loading import load_model
from search_spaces.models.on_disk.config_checks import check_depth, check_sizes
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.damage import edit_json, said_of


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("hidden_size", "sixty-four", "a whole number"),
        ("hidden_size", None, "a whole number"),
        ("hidden_size", 10**30, "a number of at most 62 bits"),
        ("sliding_window", "x", "a whole number or null"),
        ("dtype", [], "the name of a number format"),
        ("configuration_files", None, "a list of files in the folder"),
        ("num_attention_heads", 5, "a value that fits the others"),
        ("num_attention_heads", 0, ""),
        ("num_hidden_layers", -1, "at least 1"),
        ("max_position_embeddings", 1, "at least 2"),
        ("num_hidden_layers", 10**9, "at most the 57 tensors of the checkpoint"),
        ("intermediate_size", -48, ""),
        ("vocab_size", 0, ""),
        ("rms_norm_eps", "small", "a number"),
        ("rms_norm_eps", float("nan"), "a finite number"),
        ("rms_norm_eps", 0, "a number with a point, such as 1e-06"),
        ("rms_norm_eps", -1.0, "at least 0"),
        ("decoder", {"hidden_size": 8}, "left out"),
        ("auto_map", {"AutoConfig": 3}, "names of classes"),
        ("quantization_config", {}, "of a `quant_method`"),
        ("tie_word_embeddings", "yes", "true or false"),
        ("hidden_act", "evil", "one that transformers knows"),
        ("dtype", "float7", "one that this family takes"),
        ("per_layer_config", {"1": {"num_key_value_heads": 1}}, "one that this family takes"),
        ("per_layer_config", {"1": {"num_hidden_layers": 3}}, ""),
        ("text_config", {"hidden_size": 8}, "left out"),
        ("rope_theta", 0, "above 0"),
        ("f" * 300, float("inf"), "a finite number"),
        ("architectures", "LlamaForCausalLM", "a list of names of classes"),
        ("architectures", [3], "a list of names of classes"),
        ("model_type", None, "the name of a family"),
        ("model_type", ["llama"], "the name of a family"),
        ("auto_map", ["own.Config"], "an object or null"),
        ("quantization_config", "evil", "an object or null"),
        ("quantization_config", {"bits": 4}, "of a `quant_method`"),
        ("quantization_config", {"quant_method": ["gptq"]}, "of a `quant_method`"),
        ("rope_parameters", {"rope_type": "evil", "rope_theta": 1.0}, "of a `rope_type` among"),
        ("rope_parameters", {"rope_type": ["linear"]}, "of a `rope_type` among"),
        ("rope_scaling", [1], "an object or null"),
        ("id2label", 7, "an object"),
        ("configuration_files", ["../config.4.json"], "a list of files in the folder"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(
    field: str, value: object, rule: str, llama_copy: Path
) -> None:
    edit_json(llama_copy / "config.json", **{field: value})
    said = said_of(llama_copy)
    assert said.startswith(f"{quoted(field, 40)} in the config.json of ")
    assert f"must be {rule}" in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"factor": float("nan")}, "`factor` in the config.json of "),
        ({"factor": 0.0}, "must be above 0, got `0.0`"),
        ({"factor": 2.0, "rope_theta": -1}, "must be above 0, got `-1`"),
        ({"factor": 2.0, "more": [1.0, {"deep": float("inf")}]}, "`deep` in the config.json of "),
        ({"factor": 10**30}, "must be a number of at most 62 bits"),
        ({"short_factor": [1.0, 0.0]}, "`short_factor` in the config.json of "),
        ({"long_factor": [1.0, "a"]}, "must be of numbers above 0, got `'a'`"),
        ({"long_factor": 1.0}, "must be a list of numbers, got `1.0`"),
    ],
)
def test_a_wrong_number_is_found_however_deep(
    values: dict[str, object], said: str, llama_copy: Path
) -> None:
    rope = {"rope_type": "linear", "rope_theta": 1e4, **values}
    edit_json(llama_copy / "config.json", rope_parameters=rope)
    assert said in said_of(llama_copy)


def test_a_limit_may_be_none_where_a_family_writes_it_so(llama_copy: Path) -> None:
    edit_json(llama_copy / "config.json", time_step_limit=[0.0, float("inf")])
    assert load_model(str(llama_copy)).model.config.num_hidden_layers == 6
    edit_json(llama_copy / "config.json", time_step_limit=[float("nan"), float("inf")])
    assert "`time_step_limit` in the config.json of " in said_of(llama_copy)


def test_a_config_that_says_nothing_new_of_its_layers_is_read(llama_copy: Path) -> None:
    edit_json(llama_copy / "config.json", per_layer_config={"1": {}})
    assert load_model(str(llama_copy)).model.config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (
            Qwen2Config(num_hidden_layers=2, layer_types=["full_attention", "sliding_attention"]),
            "sliding_window",
        ),
        (
            Llama4TextConfig(
                num_hidden_layers=1, layer_types=["chunked_attention"], attention_chunk_size=None
            ),
            "attention_chunk_size",
        ),
    ],
)
def test_layers_that_look_back_no_one_says_how_far_are_told(
    config: PreTrainedConfig, field: str
) -> None:
    with pytest.raises(ModelError, match=rf"`{field}` in .* must be a whole number, for `layer_t"):
        check_sizes("model", config)
    setattr(config, field, 4)
    check_sizes("model", config)


def test_sizes_that_differ_by_layer_are_not_asked_for() -> None:
    differing: Any = {"per_layer_config": {"1": {"intermediate_size": 8}}}
    config = LlamaConfig(num_hidden_layers=2, **differing)
    check_sizes("model", config)
    check_depth("model", config, tensor_count=20)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("output_attentions", True),
        ("output_hidden_states", True),
        ("return_dict", False),
        ("torchscript", True),
        ("use_cache", False),
        ("fusion_config", True),
        ("_attn_implementation", "evil/kernel"),
        ("attn_implementation", "evil/kernel"),
    ],
)
def test_what_a_config_asks_of_a_pass_is_left_aside(
    field: str, value: object, llama_copy: Path, llama: ModelStructure
) -> None:
    edit_json(llama_copy / "config.json", **{field: value})
    model = load_model(str(llama_copy)).model
    tokens = random_tokens()
    expected = llama.backbone.model(tokens, use_cache=False).logits
    assert torch.equal(model(tokens, use_cache=False).logits, expected)
    assert len(read_structure(model).layers) == 6


def test_layers_beyond_the_config_are_said_to_be_left_out(
    llama_copy: Path, notices: list[str]
) -> None:
    edit_json(llama_copy / "config.json", num_hidden_layers=4)
    for offload in ("never", "always"):
        notices.clear()
        load_model(str(llama_copy), offload=offload)
        assert notices == [
            "the checkpoint holds 18 tensors that config.json has no place for, such as "
            "`model.layers.4.input_layernorm.weight`: they are left out"
        ]


def test_layers_that_the_checkpoint_lacks_are_named(llama_copy: Path) -> None:
    edit_json(llama_copy / "config.json", num_hidden_layers=7)
    assert "lacks 9, such as `model.layers.6.input_layernorm.weight`" in said_of(llama_copy)


@pytest.mark.parametrize(
    ("method", "package"),
    [("gptq", "optimum"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed-tensors")],
)
def test_a_quantised_model_is_refused_by_the_library_that_is_absent(
    method: str, package: str, llama_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = "quantizer_compressed_tensors.is_compressed_tensors_available"
    monkeypatch.setattr(f"transformers.quantizers.{absent}", lambda: False)
    settings = {"quant_method": method, "bits": 4, "group_size": 32, "config_groups": {}}
    edit_json(llama_copy / "config.json", quantization_config=settings)
    said = said_of(llama_copy)
    assert f"needs the library of its method, and `{method}` of" in said
    assert f"as it was before quantisation, or install `{package}`" in said
