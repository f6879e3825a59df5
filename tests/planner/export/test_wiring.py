"""The wiring that the bundled code reads, as a reader of the family's source would put it."""

from dataclasses import replace

import pytest

from planner.export.wiring import describe_wiring
from search_spaces.errors import StructureError
from search_spaces.structure.read import ModelStructure
from tests.families import dense


def test_wiring_of_separate_projections() -> None:
    assert describe_wiring(dense("llama")) == {
        "stack": "model.layers",
        "sequential": True,
        "attention": {
            "module": "self_attn",
            "returns": 2,
            "private": ["input_layernorm"],
            "rows": {"self_attn.q_proj": 16, "self_attn.k_proj": 8, "self_attn.v_proj": 8},
            "columns": {"self_attn.o_proj": 16},
            "attributes": {},
            "units": 2,
            "gains_bias": True,
            "heads": 2,
        },
        "mlp": {
            "module": "mlp",
            "returns": 1,
            "private": ["post_attention_layernorm"],
            "rows": {"mlp.gate_proj": 1, "mlp.up_proj": 1},
            "columns": {"mlp.down_proj": 1},
            "attributes": {},
            "units": 48,
            "gains_bias": True,
        },
    }


def test_wiring_of_fused_projections() -> None:
    wiring = describe_wiring(dense("phi3"))
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
    assert wiring["mlp"]["module"] == ""
    assert wiring["mlp"]["rows"] == {"fc1": 1}
    assert wiring["mlp"]["columns"] == {"fc2": 1}


def test_layers_must_be_wired_alike(llama: ModelStructure) -> None:
    odd = replace(
        llama.layers[2], attention=replace(llama.layers[2].attention, attributes={"heads": 1})
    )
    mixed = replace(llama, layers=(*llama.layers[:2], odd, *llama.layers[3:]))
    with pytest.raises(StructureError, match="layer 2 differs from layer 0"):
        describe_wiring(mixed)
