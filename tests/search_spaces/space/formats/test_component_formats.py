"""Which formats each component of a model chooses among, and which widths they hold."""

from typing import TYPE_CHECKING, Any

import pytest
from transformers import LlamaConfig

from search_spaces.reading.read import read_structure
from search_spaces.space.formats.component_formats import (
    asked_of,
    component_formats,
)
from search_spaces.space.number_format import (
    FORMATS,
    SOURCE,
    STORED,
    NumberFormat,
    file_format,
)
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from tests.models.factory import make_model
from tests.models.moe_families import mixture_in_blocks

if TYPE_CHECKING:
    from search_spaces.structure.components import ComponentKind

LADDER = tuple(FORMATS[name] for name in ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"))


def structure_of(**sizes: Any) -> ModelStructure:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=96,
        intermediate_size=768,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=3,
        tie_word_embeddings=False,
        **sizes,
    )
    return read_structure(make_model(config)).with_ends()


def test_what_no_matrix_is_held_in_stands_as_its_fallback() -> None:
    formats = component_formats(structure_of(), LADDER, {})
    # rows of 96 inputs are whole blocks of 32 and not of 256, as those of 576 are in SmolLM2
    names = [each.name for each in formats["layers.0.attention"].formats]
    assert names == ["Q8_0", "Q5_1", "Q5_0", "Q4_0"]
    assert formats["head"] == formats["embedding"]
    assert [each.name for each in formats["head"].formats] == names
    # of an MLP the last matrix has 768 inputs
    mlp = [each.name for each in formats["layers.0.mlp"].formats]
    assert mlp == ["Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"]


def test_widths_are_whole_blocks_of_all_of_them() -> None:
    structure = structure_of()
    attention, mlp = structure.in_layers
    formats = component_formats(structure, LADDER, {})
    # a group has 2 heads of 16: blocks of 32; a channel is one input of 256
    assert (formats[attention.name].unit_step, formats[mlp.name].unit_step) == (1, 256)
    legacy = component_formats(structure, LADDER[:1], {})
    assert legacy[mlp.name].unit_step == 32
    held = [count for count in range(769) if formats[mlp.name].holds_units(mlp, count)]
    assert held == [0, 256, 512, 768]


def test_experts_step_in_their_channels() -> None:
    structure = mixture_in_blocks()
    (experts,) = mixtures_of(structure.components)
    of_experts = component_formats(structure, LADDER[:1], {})[experts.name]
    assert of_experts.unit_step == 1
    assert of_experts.channel_step == 32
    held = [count for count in range(65) if of_experts.holds_channels(experts, count)]
    assert held == [0, 32, 64]


def test_formats_as_large_as_what_is_stored_are_left_out() -> None:
    structure = structure_of()
    model = structure.backbone.model
    wide = component_formats(structure, (FORMATS["BF16"], FORMATS["Q8_0"]), {})
    assert [each.name for each in wide["head"].formats] == ["BF16", "Q8_0"]
    model.bfloat16()
    narrow = component_formats(structure, (FORMATS["BF16"], FORMATS["Q8_0"]), {})
    assert [each.name for each in narrow["head"].formats] == ["Q8_0"]


def test_a_source_is_of_each_matrix_as_it_came() -> None:
    structure = structure_of()
    attention, _ = structure.in_layers
    owner = structure.owner(attention)
    paths = [each.path for each in attention.unit_weights(owner)]
    names = [structure.tensor_name(attention, path) for path in paths]
    parameters = dict(structure.backbone.model.named_parameters())
    assert set(names) <= parameters.keys()
    sources = {names[0]: file_format("Q4_1"), names[-1]: file_format("IQ4_XS")}
    formats = component_formats(structure, (SOURCE, FORMATS["Q8_0"]), sources)
    assert formats["layers.0.mlp"].formats == (FORMATS["Q8_0"],)
    assert set(formats[attention.name].formats) == {SOURCE, FORMATS["Q8_0"]}


def test_a_source_of_several_formats_is_not_offered_where_matrices_are_one() -> None:
    structure = structure_of()
    attention, _ = structure.in_layers
    owner = structure.owner(attention)
    rows = [each.path for each in attention.unit_weights(owner) if each.side == "rows"]
    names = [structure.tensor_name(attention, path) for path in rows]
    assert len(names) == 3
    alike = dict.fromkeys(names, file_format("Q4_1"))
    mixed = {**alike, names[-1]: file_format("Q5_1")}  # as values are in many a file
    cases: list[tuple[dict[str, NumberFormat], list[ComponentKind], bool]] = [
        (mixed, [], True),
        (alike, ["attention"], True),
        (mixed, ["attention"], False),
        (mixed, ["mlp"], True),
    ]
    for sources, fuses, is_offered in cases:
        formats = component_formats(structure, (SOURCE, FORMATS["Q8_0"]), sources, fuses)
        assert (SOURCE in formats[attention.name].formats) == is_offered
        assert FORMATS["Q8_0"] in formats[attention.name].formats


@pytest.mark.parametrize(
    ("came", "kept", "anew"), [("Q4_1", "Q4_1", "Q4_1"), ("IQ4_XS", "IQ4_XS", "Q4_K")]
)
def test_what_is_made_anew_of_a_source_is_in_a_format_that_we_write(
    came: str, kept: str, anew: str
) -> None:
    source = file_format(came)
    assert asked_of(SOURCE, source).name == kept
    assert asked_of(SOURCE, source, is_anew=True).name == anew
    assert asked_of(FORMATS["Q8_0"], source) == FORMATS["Q8_0"]
    assert asked_of(SOURCE, STORED, is_anew=True) == STORED
