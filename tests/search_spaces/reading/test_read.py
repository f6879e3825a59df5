"""What is read of each family is what a reader of its source would say."""

import numpy as np
import pytest
from transformers import FalconConfig, Olmo2Config, PreTrainedConfig

from search_spaces.errors import StructureError
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.factory import COMMON, GROUPED, HEAD_DIM, HEADS, LAYERS, make_model
from tests.models.families import Family
from tests.models.parts import attention_of, mlp_of
from tests.models.wirings import Wiring, make


def test_units_of_rows_and_columns_are_those_of_the_source(
    family: Family, structure: ModelStructure
) -> None:
    for layer in structure.layers:
        for component, expected in (
            (attention_of(layer), family.attention),
            (mlp_of(layer), family.mlp),
        ):
            got = {projection.path: projection.units for projection in component.projections}
            assert list(got) == list(expected)
            for path, units in expected.items():
                np.testing.assert_array_equal(got[path], units)
            sides = [projection.side for projection in component.projections]
            assert sides == [*["rows"] * (len(sides) - 1), "columns"]


def test_components_know_their_place_and_norms(family: Family, structure: ModelStructure) -> None:
    names = [f"layers.{layer}.{kind}" for layer in range(LAYERS) for kind in ("attention", "mlp")]
    assert [component.name for component in structure.components] == names
    for layer in structure.layers:
        assert attention_of(layer).module == family.attention_module
        assert mlp_of(layer).module == family.mlp_module
        assert attention_of(layer).private == family.attention_private
        assert mlp_of(layer).private == family.mlp_private
        assert layer.shared == family.shared
        assert layer.parallel is family.parallel
        assert layer.vanishes is family.vanishes
        assert sorted(attention_of(layer).attributes.items()) == list(family.attributes)
        assert not mlp_of(layer).attributes


def test_cache_and_core_are_counted_for_each_group(
    family: Family, structure: ModelStructure
) -> None:
    config = structure.backbone.model.config
    head_dim = getattr(config, "head_dim", None) or HEAD_DIM
    for layer in structure.layers:
        assert attention_of(layer).unit_count == family.groups
        assert attention_of(layer).cached_features == 2 * head_dim
        assert attention_of(layer).core_features == HEADS // family.groups * 2 * head_dim
        assert mlp_of(layer).unit_count == family.channels
        assert mlp_of(layer).cached_features == mlp_of(layer).core_features == 0


def test_reading_leaves_the_model_as_it_was(structure: ModelStructure) -> None:
    weights = list(structure.backbone.model.parameters())
    assert weights
    assert not any(weight.requires_grad or weight.grad is not None for weight in weights)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        pytest.param(
            FalconConfig(**COMMON),
            r"attention interface once, got 0 calls in `transformer\.h\.0`",
            id="attention of its own",
        ),
    ],
)
def test_what_cannot_be_read_is_named(config: PreTrainedConfig, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        read_structure(make_model(config))


def test_a_model_whose_cache_forgets_what_its_mask_does_not_is_refused() -> None:
    forgetful = Wiring(name="forgetful", model_type="moshi", options={"sliding_window": 8})
    with pytest.raises(
        StructureError, match=r"same with a cache as without, .*could not be proved"
    ):
        read_structure(make(forgetful))


def test_heads_under_one_norm_are_one_unit() -> None:
    structure = read_structure(make_model(Olmo2Config(**GROUPED)))
    assert [attention_of(layer).unit_count for layer in structure.layers] == [1] * 6
