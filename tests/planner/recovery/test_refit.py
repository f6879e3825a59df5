"""Refitting follows the dense model on what a plan itself reads, in every kind of layer."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from evaluators.scoring.evaluator import Evaluator
from planner.recovery.cut_plan import CutPlan
from planner.recovery.fitting_text import FittingText
from planner.recovery.recovered_weights import matrices_in
from planner.recovery.refit import refit
from planner.recovery.side_by_side import FIRST_TOKENS, SideBySide
from search_spaces.errors import DataError
from search_spaces.models.tensors import tensor_at
from search_spaces.progress import NO_PROGRESS
from search_spaces.space.formats.format_ladder import FormatLadder
from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.recovery.prepared_plans import (
    dense_plan,
    kl_of,
    prepared_model,
    smaller_plan,
)

KINDS = ("llama", "gpt2", "cohere", "gemma3", "granite", "mixtral", "qwen2-moe", "deepseek-v3")
"""Added as it is, transposed, side by side, behind a norm, times a constant; experts, with one
that all share, in groups."""


def _saved(name: str, folder: Path) -> Path:
    family = {**FAMILIES, **MOE_FAMILIES}[name]
    return save_model(make_model(family.config()), folder)


def _changes(plan: CutPlan, text: FittingText) -> dict[int, dict[str, Tensor]]:
    return {index: dict(changed) for index, changed in refit(plan, text, NO_PROGRESS)}


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_comes_nearer_to_the_dense_model(name: str, tmp_path: Path) -> None:
    prepared = prepared_model(
        _saved(name, tmp_path / "model"), tmp_path / "run", compensate="none"
    )
    plan, text = smaller_plan(prepared, first=1), FittingText.of(prepared)
    changes = _changes(plan, text)
    assert min(changes) == 1
    before, after = kl_of(plan, text.fitted, {}), kl_of(plan, text.fitted, changes)
    assert after < 0.9 * before
    assert kl_of(plan, text.apart, changes) < kl_of(plan, text.apart, {})


def test_a_dense_plan_stays_as_it_is(saved_llama: Path, tmp_path: Path) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "run")
    assert _changes(dense_plan(prepared), FittingText.of(prepared)) == {}


def test_the_first_tokens_of_windows_are_left_out(saved_llama: Path, tmp_path: Path) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "run")
    text = FittingText.of(prepared)
    short = FittingText(fitted=text.fitted[:, :FIRST_TOKENS], apart=text.apart)
    assert not any(_changes(smaller_plan(prepared), short).values())


def test_layers_are_called_without_a_cache(saved_llama: Path, tmp_path: Path) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "run")
    plan, backbone = dense_plan(prepared), prepared.dense.structure.backbone
    windows = prepared.calibration.statistics
    side = SideBySide.of(plan, windows)
    with torch.no_grad():
        for index in range(len(backbone.layers)):
            for pair in side.pairs:
                for _ in range(2):  # a cache would grow with each call
                    hidden = side.run(plan.layer(index), pair.student, pair, index)
                pair.student = hidden
        final = torch.cat([backbone.leave(pair.student) for pair in side.pairs])
        torch.testing.assert_close(final, backbone.enter(windows).final)


@pytest.mark.parametrize(
    ("name", "space", "kinds"),
    [
        ("llama", "channels,sparsity", {"zeros"}),
        ("llama", "channels,formats", {"bytes"}),
        ("mixtral", "experts,sparsity,formats", {"zeros", "bytes"}),
    ],
)
def test_zeros_and_formats_stay(name: str, space: str, kinds: set[str], tmp_path: Path) -> None:
    model = _saved(name, tmp_path / "model")
    options = {"formats": FormatLadder.parse("Q8_0")} if "formats" in space else {}
    prepared = prepared_model(model, tmp_path / "run", space=space, sparsity_step=50, **options)
    plan, text = smaller_plan(prepared, 0.0), FittingText.of(prepared)
    differ, checked = 0, set[str]()
    for index, changed in _changes(plan, text).items():
        layer, span = plan.layer(index), prepared.dense.structure.spans[index]
        quantized, before_all = matrices_in(changed), plan.quantized(index)
        for position in range(span.start, span.stop):
            kept, module = plan.options(position), prepared.space.components[position].module
            for path, tensor in changed.items():
                if not path.startswith(module) or tensor.dtype == torch.uint8:
                    continue
                before = tensor_at(layer, path)
                differ += not torch.equal(tensor, before)
                if not kept.pattern.is_dense:
                    assert not tensor[before == 0].any()
                    checked.add("zeros")
                assert (path in quantized) == (path in before_all)
                if path in quantized:
                    assert torch.equal(quantized[path].dequantized(), tensor)
                    assert quantized[path].format == before_all[path].format
                    assert not torch.equal(quantized[path].data, before_all[path].data)
                    checked.add("bytes")
    assert differ > 2
    assert checked == kinds


def test_a_plan_is_followed_with_its_own_embedding_and_head(
    saved_llama: Path, tmp_path: Path
) -> None:
    ladder = FormatLadder.parse("Q4_0")
    prepared = prepared_model(saved_llama, tmp_path / "run", space="formats", formats=ladder)
    plan, windows = smaller_plan(prepared, 0.0), prepared.calibration.fresh
    (pair,) = SideBySide.of(plan, windows).pairs
    embedding = plan.model().get_input_embeddings().weight
    assert isinstance(embedding, Tensor)
    assert torch.equal(pair.student, embedding[windows])
    assert not torch.equal(pair.student, pair.dense)
    builder = prepared.layer_builder
    evaluator = Evaluator(prepared.sorted_model, windows, layer_builder=builder)
    ((_, score),) = evaluator.score(plan.configurations[None])
    assert kl_of(plan, windows, {}) == pytest.approx(score.mean("kl"), rel=1e-4)


def test_a_streamed_model_is_refitted_alike(saved_llama: Path, tmp_path: Path) -> None:
    found = []
    for offload in ("never", "always"):
        prepared = prepared_model(
            saved_llama, tmp_path / offload, offload=offload, **_text(tmp_path)
        )
        found.append(_changes(smaller_plan(prepared), FittingText.of(prepared)))
    assert found[0].keys() == found[1].keys()
    for index, changed in found[0].items():
        assert changed.keys() == found[1][index].keys()
        for path, tensor in changed.items():
            torch.testing.assert_close(tensor, found[1][index][path])


def _text(folder: Path) -> dict[str, str]:
    """Return the options of text that a streamed model need not write itself."""
    file = folder / "text.txt"
    words = [f"w{3 + (7 * index * index + index // 5) % 90}" for index in range(6000)]
    file.write_text(" ".join(words), encoding="utf-8")
    return {"data": str(file)}


def test_too_little_text_is_refused(saved_llama: Path, tmp_path: Path) -> None:
    prepared = prepared_model(saved_llama, tmp_path / "run", calibration_windows=1)
    with pytest.raises(DataError, match="at least 2 windows of calibration text"):
        FittingText.of(prepared)
