"""Exports of every wiring that a config chooses, from checkpoints of each number format."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.in_process import compare, scored_logits
from planner.targets.hf.loaded_folder import load_export
from planner.targets.hf.model_folder import cut_model, write_model
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import read_structure
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.models.factory import save_model, twin
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.models.wirings import CHOSEN_WIRINGS, Wiring, make, random_plan
from tests.planner.export.exports import ROUNDING

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EPSILONS = {"float32": 1e-5, "bfloat16": 0.5, "float16": 0.1}
"""Of the logits' spread, for a mean over tokens: what rounding in each does to six layers."""
EVERY_DAY = (
    "qwen2 yarn",
    "gpt2 scale by layer",
    "mimo_v2_flash heads by layer",
    "gemma3_text thetas",
)
"""Wirings of the default tests; the others are left to ``-m families``."""
ALL = "heads,channels,drops,experts,top_k"
_TYPES = {
    str(family.config_class.model_type) for family in [*FAMILIES.values(), *MOE_FAMILIES.values()]
}
WIRINGS = [
    *CHOSEN_WIRINGS.values(),
    *(Wiring(name=model_type, model_type=model_type) for model_type in sorted(_TYPES)),
]


def cases(every_day: Sequence[str], dtypes: Iterable[str]) -> list[Any]:
    """Give each wiring from each number format, as cases of a parametrised test."""
    return [
        pytest.param(
            wiring,
            dtype,
            marks=()
            if wiring.name in every_day and dtype == "bfloat16"
            else (pytest.mark.families,),
            id=f"{wiring.name}-{dtype}",
        )
        for wiring in WIRINGS
        for dtype in dtypes
    ]


def tokens_of(structure: ModelStructure) -> Tensor:
    size = structure.backbone.model.config.get_text_config().vocab_size
    return torch.randint(3, size, (2, 48), generator=torch.Generator().manual_seed(1))


def stored(wiring: Wiring, dtype: str, folder: Path) -> Path:
    model: Any = make(wiring)
    return save_model(model.to(DTYPES[dtype]), folder)


def opened(folder: Path, dtype: torch.dtype) -> tuple[LoadedModel, ModelStructure]:
    loaded = load_model(str(folder), dtype=dtype)
    return loaded, read_structure(loaded.model)


def exported(loaded: LoadedModel, structure: ModelStructure, plan: Plan, folder: Path) -> Any:
    folder.mkdir()
    cut = cut_model(structure, plan)
    write_model(folder, cut, loaded)
    return cut, load_export(folder)


@pytest.mark.parametrize(("wiring", "dtype"), cases(EVERY_DAY, DTYPES))
def test_an_export_computes_what_was_scored(wiring: Wiring, dtype: str, tmp_path: Path) -> None:
    loaded, structure = opened(stored(wiring, dtype, tmp_path / "dense"), torch.float32)
    tokens = tokens_of(structure)
    for words in (ALL, "layers"):
        plan = random_plan(structure, loaded.identity, words)
        assert plan is not None
        _, model = exported(loaded, structure, plan, tmp_path / words)
        expected = scored_logits(twin(structure), plan, tokens)
        proof = compare(model, expected, tokens)
        assert max(proof.logit_gap, proof.cache_gap) <= ROUNDING * float(expected.std())


@pytest.mark.parametrize(("wiring", "dtype"), cases(EVERY_DAY[:1], ["bfloat16"]))
def test_it_is_scored_alike_in_every_arithmetic(
    wiring: Wiring, dtype: str, tmp_path: Path
) -> None:
    folder = stored(wiring, dtype, tmp_path / "dense")
    logits = {}
    for name, arithmetic in DTYPES.items():
        loaded, structure = opened(folder, arithmetic)
        plan = random_plan(structure, loaded.identity, ALL)
        assert plan is not None
        logits[name] = scored_logits(structure, plan, tokens_of(structure)).float()
    for name, got in logits.items():
        gap = (got - logits["float32"]).abs().amax(dim=-1).median()
        assert gap <= EPSILONS[name] * logits["float32"].std()


@pytest.mark.parametrize("name", ["gpt2 scale by layer", "minicpm3 depth"])
def test_a_stock_class_that_would_scale_otherwise_is_not_used(name: str, tmp_path: Path) -> None:
    wiring = CHOSEN_WIRINGS[name]
    loaded, structure = opened(stored(wiring, "float32", tmp_path / "dense"), torch.float32)
    plan = random_plan(structure, loaded.identity, "layers")
    assert plan is not None
    cut, _ = exported(loaded, structure, plan, tmp_path / "export")
    assert not cut.is_stock
