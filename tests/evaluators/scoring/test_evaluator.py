import copy
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.quality import QUALITY, SEARCH_METRICS
from evaluators.scoring import ends, readout
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.score import Score
from search_spaces.reading.read import read_structure
from search_spaces.structure import head
from search_spaces.structure.backbone import LayerCall
from search_spaces.structure.head import LinearHead
from search_spaces.structure.linear import SlicedLinear, bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sorted_as_is
from tests.evaluators.scoring.small_models import candidates, llama, opt, values
from tests.models import tiny
from tests.models.factory import VOCABULARY


def scores(
    structure: ModelStructure, counts: NDArray[np.int_], *, batch_tokens: int = 4096
) -> list[Score]:
    fidelity = Fidelity(metrics=tuple(QUALITY), batch_tokens=batch_tokens)
    found = dict(Evaluator(sorted_as_is(structure), tiny.windows(), fidelity).score(counts))
    assert sorted(found) == list(range(len(counts)))
    return [found[member] for member in range(len(counts))]


@torch.inference_mode()
def masked_outputs(
    structure: ModelStructure, kept: NDArray[np.int_], tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and what the head reads, of a float64 copy with removed units' weights at zero."""
    model = copy.deepcopy(structure.backbone.model).double()
    layers = model.get_submodule(structure.backbone.stack.path)
    for component, count in zip(structure.components, kept.tolist(), strict=True):
        output = component.projections[-1]
        linear = layers.get_submodule(f"{component.layer}.{output.path}")
        matrix(linear)[:, torch.from_numpy(output.units >= count)] = 0
        offset = bias(linear)
        if count == 0 and offset is not None:
            offset.zero_()
    read: list[Tensor] = []
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    head.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    logits = model(input_ids=tokens).logits
    assert isinstance(logits, Tensor)
    return logits[:, :-1], read[0][:, :-1]


def reference(structure: ModelStructure, kept: NDArray[np.int_]) -> dict[str, NDArray[np.float64]]:
    """Each metric at each position by its definition, ``(windows, positions)``."""
    tokens = tiny.windows()
    teacher, x = masked_outputs(structure, tiny.dense_counts(structure), tokens)
    student, y = masked_outputs(structure, kept, tokens)
    log_p, log_q = teacher.log_softmax(dim=-1), student.log_softmax(dim=-1)
    return {
        "kl": (log_p.exp() * (log_p - log_q)).sum(dim=-1).numpy(),
        "nll": -log_q.gather(2, tokens[:, 1:, None]).squeeze(2).numpy(),
        "agreement": (log_p.argmax(dim=-1) == log_q.argmax(dim=-1)).double().numpy(),
        "acceptance": torch.minimum(log_p.exp(), log_q.exp()).sum(dim=-1).numpy(),
        "cosine": ((x * y).sum(dim=-1) / (x.norm(dim=-1) * y.norm(dim=-1))).numpy(),
    }


@pytest.mark.parametrize("family", [llama, opt], ids=["llama", "opt"])
def test_scores_equal_a_full_float64_reference(family: Callable[[], ModelStructure]) -> None:
    structure = family()
    counts = candidates(structure, 6)
    for kept, score in zip(counts, scores(structure, counts), strict=True):
        expected = reference(structure, kept)
        assert expected["kl"].mean() > 0.1  # something to get wrong
        for name in QUALITY:
            # float32 through the layers
            assert score.quality[name].value == pytest.approx(expected[name].mean(), abs=1e-4)


def test_the_error_is_that_of_the_mean_over_windows() -> None:
    counts = candidates(llama(), 3)
    for kept, score in zip(counts, scores(llama(), counts), strict=True):
        for name, by_position in reference(llama(), kept).items():
            means = [float(np.mean(window)) for window in by_position]
            spread = sum((mean - sum(means) / 4) ** 2 for mean in means)
            by_hand = (spread / (4 - 1) / 4) ** 0.5
            assert score.quality[name].standard_error == pytest.approx(by_hand, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dense_model_is_exactly_itself(dtype: torch.dtype) -> None:
    model = copy.deepcopy(llama().backbone.model)
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    structure = read_structure(model)
    (score,) = scores(structure, tiny.dense_counts(structure)[None])
    for name, value in (("kl", 0.0), ("agreement", 1.0), ("acceptance", 1.0), ("cosine", 1.0)):
        assert score.quality[name].value == value
        assert score.quality[name].standard_error == 0.0


def test_only_what_is_asked_for_is_measured() -> None:
    counts = candidates(llama(), 2)
    plain = dict(Evaluator(sorted_as_is(llama()), tiny.windows()).score(counts))
    two = Fidelity(metrics=("cosine", "kl"))
    other = dict(Evaluator(sorted_as_is(llama()), tiny.windows(), two).score(counts))
    for member, whole in enumerate(scores(llama(), counts)):
        assert plain[member].quality == {name: whole.quality[name] for name in SEARCH_METRICS}
        assert other[member].quality == {name: whole.quality[name] for name in ("cosine", "kl")}


def test_scores_do_not_depend_on_the_company() -> None:
    counts = candidates(llama(), 20)  # more than the heads computed at once
    counts[11] = counts[3]
    together = scores(llama(), counts)
    for kept, score in zip(counts, together, strict=True):
        (alone,) = scores(llama(), kept[None])
        assert alone.quality == score.quality
    assert together[11].quality == together[3].quality


@pytest.mark.parametrize("rows", [1, 5, 11, 44])
def test_scores_do_not_depend_on_the_chunks(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = candidates(llama(), 4)
    whole = scores(llama(), counts)
    monkeypatch.setattr(readout, "LOGITS_BYTES", 4 * VOCABULARY * rows)
    for kept, score in zip(whole, scores(llama(), counts), strict=True):
        # matrix products of fewer rows may add in another order
        assert values(score) == pytest.approx(values(kept), rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 12, 40])
def test_scores_do_not_depend_on_the_batches(batch_tokens: int) -> None:
    counts = candidates(llama(), 4)
    split = scores(llama(), counts, batch_tokens=batch_tokens)
    for kept, score in zip(scores(llama(), counts), split, strict=True):
        # matrix products of fewer rows may add in another order
        assert values(score) == pytest.approx(values(kept), rel=1e-5)


def test_logits_are_computed_tile_by_tile_and_the_teacher_s_for_all_candidates_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiles: list[tuple[int, int]] = []
    of_part = LinearHead.logits

    def counted(formula: LinearHead, hidden: Tensor, part: slice) -> Tensor:
        logits = of_part(formula, hidden, part)
        tiles.append((len(hidden), logits.shape[1]))
        return logits

    assert llama().backbone.linear_head is not None
    monkeypatch.setattr(LinearHead, "logits", counted)
    monkeypatch.setattr(readout, "ROWS", 10)
    monkeypatch.setattr(ends, "TILE", 16)
    monkeypatch.setattr(head, "_SUMMED", 8)  # half of a tile of the mean embedding
    scores(llama(), candidates(llama(), 20))
    assert max(rows for rows, _ in tiles) == 10
    assert max(width for _, width in tiles) == 16
    logits = sum(rows * width for rows, width in tiles)
    # two passes over each candidate, the second for whole distributions; the teacher's for its
    # normaliser and its mean embedding, and then once for every 8 candidates
    assert logits == 4 * (12 - 1) * VOCABULARY * (2 * 20 + 2 + 3)


def test_a_head_of_no_known_formula_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = candidates(llama(), 6)
    expected = scores(llama(), chosen)
    rows: list[int] = []
    backbone = llama().backbone
    whole = backbone.logits

    def counted(final: Tensor) -> Tensor:
        rows.append(len(final))
        return whole(final)

    monkeypatch.setattr(backbone, "logits", counted)
    monkeypatch.setitem(vars(backbone), "linear_head", None)
    monkeypatch.setattr(readout, "LOGITS_BYTES", 4 * VOCABULARY * 10)
    for found, same in zip(scores(llama(), chosen), expected, strict=True):
        for name, by_window in same.by_window.items():
            assert found.by_window[name] == pytest.approx(by_window, rel=1e-4, abs=1e-6)
    assert max(rows) == 10


def test_a_score_tells_its_tokens_and_comes_as_soon_as_it_is_known() -> None:
    judge = Evaluator(sorted_as_is(llama()), tiny.windows())
    counts = candidates(llama(), 30)
    arriving = judge.score(counts)
    _, score = next(arriving)
    assert score.tokens == 4 * 12
    by_then = judge.tree.component_runs
    list(arriving)
    assert by_then < 0.6 * judge.tree.component_runs


def test_seconds_are_those_spent_inside_and_not_the_callers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge = Evaluator(
        sorted_as_is(llama()), tiny.windows(), Fidelity(batch_tokens=24)
    )  # two batches
    backbone, now = llama().backbone, [0.0]
    run_layer = backbone.run_layer

    def slow(layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        now[0] += 1.0
        return run_layer(layer, hidden, call)

    monkeypatch.setattr(backbone, "run_layer", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    total, callers = 0.0, 0.0
    for _, score in judge.score(candidates(llama(), 30)):
        assert score.seconds > 0
        total += score.seconds
        now[0] += 1000.0
        callers += 1000.0
    assert total == pytest.approx(now[0] - callers)


def test_no_candidates_give_no_scores() -> None:
    assert scores(llama(), np.zeros((0, 6), dtype=np.int_)) == []


def test_rungs_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = candidates(llama(), 5)
    judge = Evaluator(
        sorted_as_is(llama()), tiny.windows(8), Fidelity(rungs=(2, 3, 8), batch_tokens=24)
    )
    whole = dict(
        Evaluator(sorted_as_is(llama()), tiny.windows(8), Fidelity(rungs=(2, 3, 8))).score(counts)
    )
    parts = [dict(judge.score(counts, rung)) for rung in range(3)]
    assert [part[0].windows for part in parts] == [2, 1, 5]
    for member, expected in whole.items():
        score = parts[0][member].then(parts[1][member]).then(parts[2][member])
        assert score.tokens == expected.tokens == 8 * 12
        for name in SEARCH_METRICS:
            # matrix products of fewer rows may add in another order
            assert score.by_window[name] == pytest.approx(expected.by_window[name], rel=1e-5)


def test_a_subset_of_positions_is_the_mean_over_them() -> None:
    fidelity = Fidelity(positions=3, seed=5, metrics=tuple(QUALITY))
    judge = Evaluator(sorted_as_is(llama()), tiny.windows(), fidelity)
    (kept,) = candidates(llama(), 1)
    ((_, score),) = judge.score(kept[None])
    chosen = judge.positions
    assert chosen.shape == (4, 3)
    assert len({tuple(row) for row in chosen.tolist()}) > 1
    for name, by_position in reference(llama(), kept).items():
        expected = np.take_along_axis(by_position, chosen, axis=1).mean(axis=1)
        assert score.by_window[name] == pytest.approx(expected, abs=1e-4)
    again = Evaluator(sorted_as_is(llama()), tiny.windows(), fidelity).positions
    assert np.array_equal(again, chosen)
    assert not np.array_equal(
        Evaluator(sorted_as_is(llama()), tiny.windows(), Fidelity(positions=3, seed=6)).positions,
        chosen,
    )


def test_a_mean_over_subsets_is_the_mean_over_all_positions() -> None:
    (kept,) = candidates(llama(), 1)
    ((_, whole),) = Evaluator(sorted_as_is(llama()), tiny.windows()).score(kept[None])
    drawn = []
    for seed in range(60):
        judge = Evaluator(sorted_as_is(llama()), tiny.windows(), Fidelity(positions=2, seed=seed))
        ((_, score),) = judge.score(kept[None])
        drawn.append(score.quality["kl"].value)
    error = np.std(drawn, ddof=1) / len(drawn) ** 0.5
    assert abs(np.mean(drawn) - whole.quality["kl"].value) < 4 * error


def test_a_candidate_without_finite_logits_fails_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = llama().backbone
    run_layer = backbone.run_layer

    def overflowing(layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        output = layer.get_submodule("mlp")._modules.get("down_proj")
        result = run_layer(layer, hidden, call)
        if isinstance(output, SlicedLinear) and output.pieces[0][0].shape[1] == 40:
            result[0, -2, 0] = torch.inf
        return result

    monkeypatch.setattr(backbone, "run_layer", overflowing)
    counts = np.tile(tiny.dense_counts(llama()), (3, 1))
    counts[:, -1] = [47, 40, 39]
    found = dict(Evaluator(sorted_as_is(llama()), tiny.windows()).score(counts))
    failures = [found[member].failure for member in range(3)]
    assert failures == [None, "its logits hold NaN or infinity", None]
