"""What a card says of a plan's number formats, and what an export is proved without."""

from typing import Any

import numpy as np
import pytest

from planner.export.plan_formats import cache_format_of, plan_notes, rounding_of, with_full_cache
from planner.settings.search import SearchSettings
from planner.targets.gguf.gguf_target import GgufTarget
from planner.targets.hf.hf_target import HfTarget
from planner.targets.target import Target
from search_spaces.space.plan import Plan
from tests.models.families import FAMILIES
from tests.planner.export.exports import plan_of


class Dense:
    """As much of a dense model as is asked for."""

    def __init__(self, dtype: str) -> None:
        self.structure = FAMILIES["llama"].structure(num_hidden_layers=2).with_ends()
        self.loaded = self
        self.stored_dtype = f"torch.{dtype}"


@pytest.fixture(scope="module")
def dense() -> Any:
    return Dense("bfloat16")


def plan(dense: Any, *, format: str = "", cache: str = "", pattern: str = "") -> Plan:  # noqa: A002
    """Keep all, the MLPs in a format and sparse, the attentions with a cache in one."""
    components = dense.structure.components
    made = plan_of(dense.structure, [np.arange(c.member_count) for c in components])
    sites = {
        name: kept.model_copy(update={"cache": cache})
        if "attention" in name
        else kept.model_copy(update={"format": format, "pattern": pattern})
        if "mlp" in name
        else kept
        for name, kept in made.sites.items()
    }
    return made.model_copy(update={"sites": sites, "weights_digest": "cafe"})


@pytest.mark.parametrize(
    ("target", "name", "is_dequantized"),
    [
        (GgufTarget(), "Q4_K", False),
        (HfTarget(), "Q4_K", True),
        (HfTarget(), "int4", False),
        (GgufTarget(), "int4", True),
    ],
)
def test_what_a_target_does_not_keep_is_said_to_be_dequantised(
    dense: Any, target: Target, name: str, is_dequantized: bool
) -> None:
    notes = plan_notes(plan(dense, format=name), target, dense)
    said = f"The matrices of 2 of 6 components hold numbers of {name}, which are stored here deq"
    assert [note.startswith(said) for note in notes] == [True] * is_dequantized
    assert all("rounded to bfloat16" in note for note in notes)
    in_full = plan_notes(plan(dense, format=name), target, Dense("float32"))  # type: ignore[arg-type]
    assert not any("rounded" in note for note in in_full)


def test_matrices_of_a_quantised_file_are_said_to_be_as_they_came(dense: Any) -> None:
    (note,) = plan_notes(plan(dense, format="source"), GgufTarget(), dense)
    assert "2 of 6 components are as they came in a quantised file" in note
    assert "quality is counted against what that file stands for" in note


def test_zeros_and_a_cache_that_is_kept_in_full_are_said(dense: Any) -> None:
    sparse = plan(dense, pattern="2:4", cache="Q8_0")
    zeros, cache = plan_notes(sparse, HfTarget(), dense)
    assert "stored as zeros in dense tensors" in zeros
    assert "keys and values in Q8_0, and keeps them in full" in cache
    assert len(plan_notes(sparse, GgufTarget(cache_type="Q8_0"), dense)) == 1


def test_what_is_proved_has_a_cache_in_full(dense: Any) -> None:
    made = plan(dense, format="Q4_K", cache="Q4_0")
    assert cache_format_of(made) == "Q4_0"
    exact = with_full_cache(made)
    assert not cache_format_of(exact)
    assert exact == plan(dense, format="Q4_K")


def test_one_quantiser_rounded_all_that_did_not_come_so(dense: Any) -> None:
    settings = SearchSettings(model="m", quantizer="imatrix")
    assert rounding_of(plan(dense, format="Q4_K"), settings) == "imatrix"
    assert not rounding_of(plan(dense), settings)
    assert not rounding_of(plan(dense, format="source"), settings)
    assert not rounding_of(plan(dense, format="Q4_K", pattern="2:4"), settings)
