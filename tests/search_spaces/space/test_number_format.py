"""Number formats: their bytes by another road, and as options of components and of plans."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from search_spaces.errors import PlanError, SettingsError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.formats.component_formats import ComponentFormats
from search_spaces.space.holds import Holds
from search_spaces.space.number_format import (
    CACHE_FORMATS,
    FORMATS,
    SOURCE,
    STORED,
    NumberFormat,
    file_format,
)
from search_spaces.space.plan import Plan
from search_spaces.space.sparsity import DENSE, SparsityPattern, sparsity_patterns
from search_spaces.structure.components import ComponentKind
from search_spaces.structure.projections import Projections

IDENTITY = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
KINDS: tuple[tuple[ComponentKind, int], ...] = (("attention", 3), ("mlp", 16))
COMPONENTS = tuple(
    Projections(
        kind=kind,
        layer=layer,
        unit_count=count,
        projections=(),
        module=kind,
        cached_features=8 if kind == "attention" else 0,
    )
    for layer in range(2)
    for kind, count in KINDS
)
CHOICES = Choices.parse("channels,formats,cache,2:4")
Q8, Q4 = FORMATS["Q8_0"], FORMATS["Q4_K"]
HOLDS = Holds(
    formats={
        component.name: ComponentFormats(formats=(Q8, Q4), unit_step=4) for component in COMPONENTS
    },
    caches=(CACHE_FORMATS["F16"], CACHE_FORMATS["Q8_0"]),
)
SPACE = build_space(
    IDENTITY,
    COMPONENTS,
    [np.arange(component.unit_count) for component in COMPONENTS],
    choices=CHOICES,
    mlp_step=2,
    patterns=sparsity_patterns(CHOICES),
    weights_digest="sparsegpt@cafe",
    holds=HOLDS,
)


@pytest.mark.parametrize("kind", gguf.GGML_QUANT_SIZES)
def test_blocks_are_as_large_as_ggml_has_them(kind: gguf.GGMLQuantizationType) -> None:
    number_format = file_format(kind.name)
    if number_format == STORED:
        assert kind.name not in FORMATS
        return
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    assert (number_format.block, number_format.block_bytes) == (block, block_bytes)
    assert number_format.weight_bits <= number_format.bits
    assert number_format.anew.name in FORMATS
    assert number_format.anew.bits >= number_format.bits - 0.01


def test_integers_are_as_compressed_tensors_packs_them() -> None:
    # 128 four-bit integers in sixteen 32-bit ones and a scale of 16 bits; two 64-bit sizes
    assert FORMATS["int4"].bytes_of(rows=3, columns=256) == 3 * 2 * (16 * 4 + 2) + 16
    assert FORMATS["int8"].bytes_of(rows=3, columns=256) == 3 * 2 * (32 * 4 + 2) + 16


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "source"])
def test_what_does_not_fit_is_held_in_a_format_that_does(name: str) -> None:
    number_format = FORMATS[name]
    for columns in (1, 32, 48, 128, 576, 768, 1024):
        held = number_format.held(columns)
        assert held.fits(columns)
        if number_format.fits(columns):
            assert held == number_format
        elif held != STORED:  # llama.cpp takes no smaller one
            assert held.bits >= number_format.bits


def test_choices_name_them_as_they_name_others() -> None:
    assert Choices(channels=True, groups=("2:4",), formats=True, cache=True) == CHOICES
    assert str(CHOICES) == "channels,formats,cache,2:4"
    assert CHOICES.rewrites
    texts = ("heads", "sparsity", "formats", "formats,2:4", "cache")
    assert [Choices.parse(text).cost for text in texts] == [
        *("params", "nonzero", "size", "packed", "kv")
    ]
    with pytest.raises(SettingsError, match="did you mean `formats`"):
        Choices.parse("format")


def test_each_component_has_a_site_and_the_cache_one_for_all() -> None:
    names = [site.name for site in SPACE.sites]
    assert names == [
        *("layers.0.attention.weights", "layers.0.attention.format"),
        *("layers.0.mlp", "layers.0.mlp.weights", "layers.0.mlp.format"),
        *("layers.1.attention.weights", "layers.1.attention.format"),
        *("layers.1.mlp", "layers.1.mlp.weights", "layers.1.mlp.format"),
        "attention.cache",
    ]
    site, table = SPACE.sites[1], SPACE.tables[0]
    assert [table[configuration] for (configuration,) in site.levels] == [
        (3, BlockOptions(format=Q4)),
        (3, BlockOptions(format=Q8)),
        (3, BlockOptions()),
    ]
    cache = SPACE.sites[-1]
    assert cache.targets == (0, 2)
    assert len(cache.levels) == 2


def test_widths_that_would_break_blocks_are_no_levels() -> None:
    widths = [SPACE.tables[1][configuration][0] for (configuration,) in SPACE.sites[2].levels]
    assert widths == [4, 8, 12, 16]


def test_a_plan_says_them_and_comes_back() -> None:
    genome = SPACE.top_levels
    genome[[1, 3, 4, -1]] = 0
    plan = Plan.model_validate_json(SPACE.plan(genome).to_json())
    attention, mlp = plan.sites["layers.0.attention"], plan.sites["layers.0.mlp"]
    assert (attention.format, attention.cache) == ("Q4_K", "Q8_0")
    assert (mlp.format, mlp.pattern, mlp.cache) == ("Q4_K", "2:4", "")
    assert plan.sites["layers.1.attention"].cache == "Q8_0"
    assert SPACE.genome(plan).tolist() == genome.tolist()
    genome[-1] = 1
    assert SPACE.plan(genome).plan_id != plan.plan_id


@pytest.mark.parametrize(
    ("update", "said"),
    [
        ({"format": "Q4K"}, "got `Q4K`; did you mean `Q4_K`"),
        ({"cache": "Q6_K"}, "must be kept in one of F16, Q8_0, Q4_0, got `Q6_K`"),
        ({"format": "int8", "digest": ""}, "must say how they were made"),
    ],
)
def test_a_plan_with_an_odd_format_is_refused(
    update: dict[str, str], said: str, tmp_path: Path
) -> None:
    content = SPACE.plan(SPACE.top_levels).model_dump()
    content["weights_digest"] = update.pop("digest", "sparsegpt@cafe")
    content["sites"]["layers.0.mlp"] |= update
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PlanError, match=said):
        Plan.load(path)


def test_a_plan_of_an_older_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    content = SPACE.plan(SPACE.top_levels).model_dump() | {"version": 6, "repair": ""}
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(PlanError, match="of version 7, and it is of version 6; export the plan"):
        Plan.load(path)


def test_options_combine_with_them_and_are_named_by_them() -> None:
    half = SparsityPattern(percent=50)
    options = combined_options((DENSE, half), (0, 8), (0,), (STORED, Q8), (STORED, Q8))
    assert [str(one) for one in options[:8]] == [
        *("dense", "50%", "8ch", "50%-8ch"),
        *("Q8_0", "50%-Q8_0", "8ch-Q8_0", "50%-8ch-Q8_0"),
    ]
    assert str(options[12]) == "Q8_0 Q8_0 cache"
    assert options[12].of_weights == options[4]  # the cache is none of its weights
    assert [one.rewrites for one in options[:8]] == [False, True, False, True, *[True] * 4]
    assert options[7].dequantized == options[3]


def test_a_target_refuses_what_it_does_not_store() -> None:
    holds = Holds(stores=(Q8,), caches=(CACHE_FORMATS["F16"],))
    attention = COMPONENTS[0]
    assert not holds.refusal(attention, 3, BlockOptions(format=Q8))
    assert "no matrices in Q4_K" in holds.refusal(attention, 3, BlockOptions(format=Q4))
    cache = BlockOptions(cache=CACHE_FORMATS["Q4_0"])
    assert "keeps no keys and values in Q4_0" in holds.refusal(attention, 3, cache)


def test_parsing_takes_names_alone() -> None:
    assert NumberFormat.parse("source") == SOURCE
    with pytest.raises(PlanError, match="write one of these"):
        NumberFormat.parse("zzz")
