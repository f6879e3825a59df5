"""The wiring that the bundled code reads, as a reader of the family's source would put it."""

from dataclasses import replace
from typing import Any

from planner.targets.hf.wiring import Wiring
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.moe_families import mixture


def describe_wiring(structure: ModelStructure) -> dict[str, Any]:
    return Wiring.of(structure).described({"num_hidden_layers": 6})


def test_wiring_of_separate_projections() -> None:
    assert describe_wiring(dense("llama")) == {
        "version": 3,
        "stack": "model.layers",
        "sequential": True,
        "dense": {"num_hidden_layers": 6},
        "kinds": [
            {
                "attention": {
                    "module": "self_attn",
                    "returns": 2,
                    "rows": {"self_attn.q_proj": 16, "self_attn.k_proj": 8, "self_attn.v_proj": 8},
                    "columns": {"self_attn.o_proj": 16},
                    "attributes": {},
                    "units": 2,
                    "query_heads": 2,
                    "gains_bias": True,
                },
                "mlp": {
                    "module": "mlp",
                    "returns": 1,
                    "rows": {"mlp.gate_proj": 1, "mlp.up_proj": 1},
                    "columns": {"mlp.down_proj": 1},
                    "attributes": {},
                    "units": 48,
                    "gains_bias": True,
                },
            }
        ],
        "norms": [["input_layernorm", "post_attention_layernorm"]],
        "kind_of": [0] * 6,
    }


def test_wiring_of_fused_projections() -> None:
    (wiring,) = describe_wiring(dense("phi3"))["kinds"]
    assert wiring["attention"]["rows"] == {"self_attn.qkv_proj": 32}
    assert wiring["attention"]["attributes"] == {
        "num_key_value_heads": 1,
        "config.num_attention_heads": 2,
    }
    assert wiring["mlp"]["rows"] == {"mlp.gate_up_proj": 2}


def test_wiring_of_an_mlp_without_a_module() -> None:
    wiring = describe_wiring(dense("opt-post-norm"))
    assert wiring["sequential"] is False
    assert wiring["stack"] == "model.decoder.layers"
    (kind,) = wiring["kinds"]
    assert kind["mlp"]["module"] == ""
    assert kind["mlp"]["rows"] == {"fc1": 1}
    assert kind["mlp"]["columns"] == {"fc2": 1}


def test_layers_that_are_wired_otherwise_are_of_another_kind(llama: ModelStructure) -> None:
    attention, *rest = llama.layers[2].components
    odd = replace(llama.layers[2], components=(replace(attention, attributes={"heads": 1}), *rest))
    mixed = replace(llama, layers=(*llama.layers[:2], odd, *llama.layers[3:]))
    wiring = describe_wiring(mixed)
    assert wiring["kind_of"] == [0, 0, 1, 0, 0, 0]
    assert wiring["kinds"][1]["attention"]["attributes"] == {"heads": 1}


def test_wiring_of_experts() -> None:
    wiring = describe_wiring(mixture("deepseek-v3"))
    assert wiring["kind_of"] == [0, 1, 1, 1]
    assert list(wiring["kinds"][0]) == ["attention", "mlp"]
    assert list(wiring["kinds"][1]) == ["attention", "experts", "shared"]
    experts = wiring["kinds"][1]["experts"]
    assert experts["router"] == "mlp.gate"
    assert "mlp.gate" in wiring["norms"][1]
    assert (experts["units"], experts["channels"], experts["top_k"]) == (16, 16, 3)
    assert set(experts["router_rows"]) == {
        "mlp.gate.weight",
        "mlp.gate.e_score_correction_bias",
    }
    assert experts["stacks"] == [
        {"path": "mlp.experts.gate_up_proj", "axis": 1, "features": 2},
        {"path": "mlp.experts.down_proj", "axis": 2, "features": 1},
    ]
    assert ["mlp.gate", "top_k"] in experts["top_k_attributes"]
    assert ["mlp.experts", "num_experts"] in experts["count_attributes"]


def test_wiring_of_transposed_experts_with_biases() -> None:
    (kind,) = describe_wiring(mixture("gpt-oss"))["kinds"]
    described = {stack["path"]: stack for stack in kind["experts"]["stacks"]}
    assert {path.rpartition(".")[2]: stack["axis"] for path, stack in described.items()} == {
        "gate_up_proj": 2,
        "gate_up_proj_bias": 1,
        "down_proj": 1,
        "down_proj_bias": None,
    }
