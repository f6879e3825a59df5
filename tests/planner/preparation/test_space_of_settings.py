"""Number formats that settings ask for: offered to components, said, or refused in a sentence."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from planner.preparation.space_of_settings import with_formats
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import read_structure
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.number_format import CACHE_FORMATS, FORMATS
from search_spaces.structure.model import ModelStructure
from tests.models.moe_families import mixture_in_blocks

TWO = Holds(stores=(FORMATS["Q8_0"], FORMATS["Q4_K"]), caches=(CACHE_FORMATS["F16"],))


@pytest.fixture(scope="module")
def loaded(saved_llama: Path) -> LoadedModel:
    return load_model(str(saved_llama))


@pytest.fixture(scope="module")
def structure(loaded: LoadedModel) -> ModelStructure:
    return read_structure(loaded.model).with_ends()


def asked(**values: str) -> SearchSettings:
    return SearchSettings.checked(**{"model": "a.model", "space": "formats", **values})


@pytest.mark.parametrize(
    ("settings", "holds", "said"),
    [
        (
            asked(formats="Q8_0,int4", loads_in="llama.cpp"),
            TWO,
            "must name what llama.cpp stores, Q8_0, Q4_K, got int4",
        ),
        (asked(formats="source"), HOLDS_ALL, "needs a model from a quantised GGUF file, got 'a.m"),
        (asked(formats="int4"), HOLDS_ALL, "int4 makes none: it needs rows of a multiple of 128"),
        (
            asked(space="2:4,formats", formats="Q8_0,Q4_K", loads_in="llama.cpp"),
            TWO,
            "of sparse weights must keep zeros, and Q4_K does not; leave it out",
        ),
        (asked(loads_in="onnx"), Holds(stores=()), "needs a place that stores some, and onnx"),
        (
            asked(space="cache,formats", loads_in="vllm"),
            replace(TWO, caches=()),
            "and vllm has none; set `--loads_in",
        ),
        (asked(space="cache", loads_in="llama.cpp"), TWO, "heads whose features are a multiple"),
    ],
)
def test_what_cannot_be_stored_is_refused_in_a_sentence(
    settings: SearchSettings,
    holds: Holds,
    said: str,
    loaded: LoadedModel,
    structure: ModelStructure,
) -> None:
    with pytest.raises(SettingsError, match=said) as refusal:
        with_formats(holds, loaded, structure, settings)
    assert len(str(refusal.value)) <= 300
    assert "\n" not in str(refusal.value)


def test_formats_without_a_space_of_them_are_refused() -> None:
    with pytest.raises(SettingsError, match="add `formats` to `--space`"):
        asked(space="heads", formats="Q8_0")


def test_each_component_gets_what_its_place_stores(
    loaded: LoadedModel, structure: ModelStructure
) -> None:
    holds = with_formats(TWO, loaded, structure, asked())
    assert holds.formats.keys() == {component.name for component in structure.components}
    # rows of 32 inputs are no blocks of 256, for which llama.cpp takes Q5_0
    names = {each.name for each in holds.formats["embedding"].formats}
    assert names == {"Q8_0", "Q5_0"}
    assert with_formats(TWO, loaded, structure, asked(space="heads")) == TWO


def test_sparse_weights_are_offered_formats_that_keep_zeros(
    loaded: LoadedModel, structure: ModelStructure
) -> None:
    holds = with_formats(TWO, loaded, structure, asked(space="2:4,formats"))
    assert {each for of in holds.formats.values() for each in of.formats} == {FORMATS["Q8_0"]}


def test_widths_that_are_left_out_are_said(
    loaded: LoadedModel, structure: ModelStructure, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with_formats(TWO, loaded, structure, asked(space="heads,formats"))
    (said,) = caplog.messages
    assert "widths of each attention, number formats hold" in said
    assert "multiples of 2 units" in said
    caplog.clear()
    experts = mixture_in_blocks().with_ends()
    with_formats(TWO, loaded, experts, asked(space="channels,formats"))
    (said,) = caplog.messages
    assert "of 8 widths of each expert, number formats hold 2 in whole" in said
    assert "multiples of 32 channels" in said
    caplog.clear()
    with_formats(replace(TWO, stores=(FORMATS["BF16"],)), loaded, structure, asked())
    assert not caplog.messages
