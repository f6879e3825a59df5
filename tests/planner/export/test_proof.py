"""An export that lacks weights, computes something else or caches wrongly is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.in_process import prove, scored_logits
from planner.targets.hf.loaded_folder import load_export
from search_spaces.errors import VerificationError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, masked_logits, random_tokens
from tests.models.factory import twin
from tests.models.families import FAMILIES
from tests.planner.export.exports import Exported, export, plan_of

KEPT = irregular_plan(FAMILIES["llama"])


@pytest.fixture(scope="module")
def sound(
    llama: ModelStructure, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    loaded = LoadedModel(
        model=llama.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(llama.backbone.model),
    )
    return export(loaded, llama, KEPT, tmp_path_factory.mktemp("verify") / "llama")


def without_a_norm(weights: dict[str, Tensor]) -> None:
    del weights["model.norm.weight"]


def with_one_more(weights: dict[str, Tensor]) -> None:
    weights["model.layers.0.extra.weight"] = torch.zeros(2)


def misshapen(weights: dict[str, Tensor]) -> None:
    weights["model.norm.weight"] = torch.ones(3)


@pytest.mark.parametrize(
    ("sensitivity", "complaint"),
    [
        (without_a_norm, r"missing_keys \['model\.norm\.weight'\]"),
        (with_one_more, r"unexpected_keys \['model\.layers\.0\.extra\.weight'\]"),
        (misshapen, r"mismatched_keys .*model\.norm\.weight"),
    ],
)
def test_every_weight_must_be_there(
    sensitivity: Callable[[dict[str, Tensor]], None],
    complaint: str,
    sound: Exported,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "harmed"
    shutil.copytree(sound.folder, folder)
    weights = load_file(folder / "model.safetensors")
    sensitivity(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationError, match=complaint):
        load_export(folder)


def test_scored_logits_are_those_of_the_masked_model(llama: ModelStructure) -> None:
    tokens = random_tokens()
    got = scored_logits(twin(llama), plan_of(llama, KEPT), tokens)
    expected = masked_logits(FAMILIES["llama"], llama, KEPT, tokens)
    # the same float32 sums in another order
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * float(expected.std()))


def test_a_sound_export_is_proved(sound: Exported) -> None:
    proof = prove(sound.model, sound.expected, sound.tokens)
    assert 0 <= proof.logit_gap <= proof.allowed
    assert 0 < proof.cache_gap <= proof.allowed
    assert proof.allowed == pytest.approx(1e-3 * float(sound.expected.std()))
    assert proof.tokens == 24


def test_other_logits_are_refused(sound: Exported) -> None:
    wrong = sound.expected.clone()
    wrong[1, 3, 5] += 0.01
    with pytest.raises(VerificationError, match=r"logit gap of 1\.0e-02"):
        prove(sound.model, wrong, sound.tokens)


def test_logits_that_are_not_numbers_are_refused(sound: Exported) -> None:
    with pytest.raises(VerificationError, match="got a logit gap of nan"):
        prove(sound.model, sound.expected * torch.nan, sound.tokens)


def test_a_cache_that_is_wrong_is_refused(sound: Exported) -> None:
    model = load_export(sound.folder)
    attention: Any = model.get_submodule("model.layers.2.part_0.self_attn")
    attention.layer_idx = 0  # two blocks write to one entry
    with pytest.raises(VerificationError, match="a cache gap of"):
        prove(model, sound.expected, sound.tokens)
