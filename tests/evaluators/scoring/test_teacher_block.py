"""Candidates against the dense model, tile by tile, as one product over all would have it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from evaluators.quality import QUALITY
from evaluators.quality.tally import Tally
from evaluators.scoring.ends import Head
from evaluators.scoring.teacher_block import TeacherBlock
from search_spaces.structure.head import LinearHead

VOCABULARY, WIDTH, POSITIONS = 203, 24, 9
PARTS = [slice(first, first + 32) for first in range(0, VOCABULARY, 32)]
TARGETS = torch.arange(POSITIONS) * 21 % VOCABULARY


def _drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _formula(*, bias: bool = False, factor: float = 1.0, cap: float | None = None) -> LinearHead:
    return LinearHead(
        weight=_drawn(VOCABULARY, WIDTH, seed=0),
        bias=_drawn(VOCABULARY, seed=1) if bias else None,
        factor=factor,
        cap=cap,
    )


def _head(formula: LinearHead, own: Tensor | None = None) -> Head:
    def whole(hidden: Tensor) -> Tensor:
        used = formula if own is None else replace(formula, weight=own)
        return used.logits(hidden, slice(None))

    return Head(whole, formula, lambda: own)


def _measured(head: Head, dense: Tensor, *students: Tensor, own: Head | None = None) -> Tensor:
    """All metrics of candidates, ``(candidates, metrics, positions)``."""
    block = TeacherBlock(head, dense, PARTS)
    compared = block.compare(students, TARGETS, own or head, with_gaps=True)
    rows = [[measure(one) for measure in QUALITY.values()] for one in compared]
    return torch.stack([torch.stack(row) for row in rows])


def _kl(dense_logits: Tensor, logits: Tensor) -> Tensor:
    log_p, log_q = dense_logits.double().log_softmax(1), logits.double().log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def _expected(dense_logits: Tensor, logits: Tensor) -> dict[str, Tensor]:
    p, log_q = dense_logits.double().softmax(1), logits.double().log_softmax(1)
    return {
        "kl": _kl(dense_logits, logits),
        "nll": -log_q[torch.arange(POSITIONS), TARGETS],
        "agreement": (p.argmax(1) == log_q.argmax(1)).double(),
        "acceptance": torch.minimum(p, log_q.exp()).sum(1),
    }


@pytest.mark.parametrize(
    "formula",
    [_formula(), _formula(bias=True), _formula(bias=True, factor=0.3), _formula(cap=3.0)],
    ids=["plain", "bias", "factor", "cap"],
)
@pytest.mark.parametrize("is_own", [False, True])
def test_metrics_are_those_of_whole_distributions(formula: LinearHead, is_own: bool) -> None:
    dense = _drawn(POSITIONS, WIDTH, seed=2)
    student = dense + 0.3 * _drawn(POSITIONS, WIDTH, seed=3)
    other = formula.weight + 0.1 * _drawn(VOCABULARY, WIDTH, seed=4)
    head = _head(formula)
    read = _head(formula, other) if is_own else head
    (found,) = _measured(head, dense, student, own=read)
    for name, values in _expected(head.whole(dense), read.whole(student)).items():
        measured = found[list(QUALITY).index(name)].tolist()
        assert measured == pytest.approx(values.tolist(), abs=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dense_model_is_exactly_zero_away(dtype: torch.dtype) -> None:
    formula = replace(_formula(), weight=_formula().weight.to(dtype))
    dense = _drawn(POSITIONS, WIDTH, seed=2).to(dtype)
    for own in (None, formula.weight.clone()):
        (found,) = _measured(_head(formula), dense, dense, own=_head(formula, own))
        by_name = dict(zip(QUALITY, found, strict=True))
        assert not by_name["kl"].any()
        assert all((by_name[name] == 1).all() for name in ("agreement", "acceptance", "cosine"))


def test_what_is_measured_does_not_depend_on_the_company() -> None:
    head, dense = _head(_formula()), _drawn(POSITIONS, WIDTH, seed=2)
    students = [_drawn(POSITIONS, WIDTH, seed=seed) for seed in (3, 4, 5)]
    together = _measured(head, dense, *students)
    for place, student in enumerate(students):
        assert torch.equal(_measured(head, dense, student)[0], together[place])


def test_a_tile_of_tokens_that_are_ruled_out_adds_nothing() -> None:
    logits = _drawn(POSITIONS, VOCABULARY, seed=5)
    logits[:, PARTS[2]] = -torch.inf
    tally = Tally(TARGETS[None])
    for part in PARTS:
        tally.add(part.start, logits[:, part].clone())
    digest = tally.digest()
    expected = logits.logsumexp(1) - logits.amax(1)
    torch.testing.assert_close(digest.log_normaliser, expected)
    wanted = logits.gather(1, TARGETS[:, None]).T - digest.highest
    assert torch.equal(tally.logits(digest.highest), wanted)


def test_in_bfloat16_it_is_as_near_to_the_exact_as_whole_rows() -> None:
    """Both round each logit; the average over the dense model's distribution is exact here."""
    formula = replace(_formula(), weight=(3 * _formula().weight).bfloat16())
    weight = formula.weight
    dense = _drawn(4096, WIDTH, seed=2).bfloat16()
    student = (dense.float() + 0.3 * _drawn(4096, WIDTH, seed=3)).bfloat16()
    truth = _kl(*(states.double() @ weight.double().T for states in (dense, student)))
    whole = _kl(*(states @ weight.T for states in (dense, student)))
    head = _head(formula)
    block = TeacherBlock(head, dense, PARTS)
    targets = torch.zeros(len(dense), dtype=torch.long)
    (compared,) = block.compare([student], targets, head, with_gaps=False)
    tiled = QUALITY["kl"](compared).double()
    assert abs((tiled - truth).mean()) <= 1.1 * abs((whole - truth).mean())
    assert (tiled - truth).std() <= 1.1 * (whole - truth).std()
