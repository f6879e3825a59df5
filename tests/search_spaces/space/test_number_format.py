"""The option int8: named in choices, a site a component, and in the plan."""

import json
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import PlanError, SettingsError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.number_format import INT8, STORED, NumberFormat
from search_spaces.space.plan import Plan
from search_spaces.space.sparsity import DENSE, SparsityPattern, sparsity_patterns
from search_spaces.structure.components import ComponentKind
from search_spaces.structure.projections import Projections

IDENTITY = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
KINDS: tuple[tuple[ComponentKind, int], ...] = (("attention", 3), ("mlp", 16))
COMPONENTS = tuple(
    Projections(kind=kind, layer=layer, unit_count=count, projections=(), module=kind)
    for layer in range(2)
    for kind, count in KINDS
)
CHOICES = Choices.parse("channels,int8,2:4")
SPACE = build_space(
    IDENTITY,
    COMPONENTS,
    [np.arange(component.unit_count) for component in COMPONENTS],
    choices=CHOICES,
    patterns=sparsity_patterns(CHOICES),
    weights_digest="sparsegpt@cafe",
)


def test_it_is_named_as_other_choices_are() -> None:
    assert Choices(channels=True, groups=("2:4",), formats=("int8",)) == CHOICES
    assert str(CHOICES) == "channels,2:4,int8"
    assert CHOICES.rewrites
    assert [Choices.parse(text).cost for text in ("heads", "sparsity", "int8", "int8,2:4")] == [
        "params",
        "nonzero",
        "size",
        "packed",
    ]
    with pytest.raises(SettingsError, match="did you mean `int8`"):
        Choices.parse("int7")


def test_each_component_has_a_site_whose_top_is_what_is_stored() -> None:
    names = [site.name for site in SPACE.sites]
    assert names[:5] == [
        "layers.0.attention.weights",
        "layers.0.attention.format",
        "layers.0.mlp",
        "layers.0.mlp.weights",
        "layers.0.mlp.format",
    ]
    site = SPACE.sites[1]
    table = SPACE.tables[0]
    assert [table[configuration] for (configuration,) in site.levels] == [
        (3, BlockOptions(format=INT8)),
        (3, BlockOptions()),
    ]


def test_a_plan_says_it_and_comes_back() -> None:
    genome = SPACE.top_levels
    genome[[1, 3, 4]] = 0
    plan = Plan.model_validate_json(SPACE.plan(genome).to_json())
    assert plan.sites["layers.0.attention"].format == "int8"
    assert (plan.sites["layers.0.mlp"].format, plan.sites["layers.0.mlp"].pattern) == (
        "int8",
        "2:4",
    )
    assert plan.sites["layers.1.mlp"].format == ""
    assert SPACE.genome(plan).tolist() == genome.tolist()
    genome[1] = 1
    assert SPACE.plan(genome).plan_id != plan.plan_id
    (zeros, note) = plan.notes("float32")
    assert "zeros" in zeros
    assert note.startswith("The matrices of 2 of 4 components hold int8 values")
    assert "in plain tensors: " in note
    assert "in plain tensors, rounded to bfloat16: " in plan.notes("bfloat16")[1]


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"format": "int9"}, "must be one of int8, got `int9`"),
        ({"format": "int8", "digest": ""}, "must say how they were made"),
    ],
)
def test_a_plan_with_an_odd_format_is_refused(
    update: dict[str, str], said: str, tmp_path: Path
) -> None:
    content = SPACE.plan(SPACE.top_levels).model_dump()
    content["weights_digest"] = update.get("digest", "sparsegpt@cafe")
    content["sites"]["layers.0.mlp"]["format"] = update["format"]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PlanError, match=said):
        Plan.load(path)


def test_options_combine_with_it_and_are_named_by_it() -> None:
    half = SparsityPattern(percent=50)
    options = combined_options((DENSE, half), (0, 8), (0,), (STORED, INT8))
    assert [str(one) for one in options] == [
        *("dense", "50%", "8ch", "50%-8ch"),
        *("int8", "50%-int8", "8ch-int8", "50%-8ch-int8"),
    ]
    assert [one.rewrites for one in options] == [False, True, False, True, *[True] * 4]
    assert options[-1].written == BlockOptions(channels=8)


def test_bytes_are_one_a_weight_and_a_scale_a_row() -> None:
    rows, values = np.array([0, 4, 4]), np.array([0, 0, 40])
    assert INT8.bytes_of(values, rows, 2).tolist() == [0, 0, 48]
    assert STORED.bytes_of(values, rows, 2).tolist() == [0, 0, 80]
    assert NumberFormat.parse("int8") == INT8
