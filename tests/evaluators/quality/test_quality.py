from math import log, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evaluators.quality import QUALITY
from evaluators.quality.comparison import Comparison
from evaluators.scoring.ends import Head
from evaluators.scoring.teacher_block import TeacherBlock


def compare(
    teacher: Tensor, student: Tensor, targets: list[int], head: Head | None = None
) -> Comparison:
    """Compare logits, which are the hidden states of a head of 1, or what another reads."""
    read = head or Head(torch.clone)
    block = TeacherBlock(read, teacher, [slice(0, 2**20)])
    (compared,) = block.compare([student], torch.tensor(targets), read, with_gaps=True)
    return compared


def measured(teacher: Tensor, student: Tensor, targets: list[int]) -> dict[str, list[float]]:
    """All metrics of logits."""
    compared = compare(teacher, student, targets)
    return {name: measure(compared).tolist() for name, measure in QUALITY.items()}


def test_the_metrics_of_a_distribution_with_known_logarithms() -> None:
    teacher = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    student = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.125, 0.375]]).log()
    found = measured(teacher, student, [1, 2])
    # Σ p log (p / q): halves and quarters that swap places; a quarter that becomes an eighth
    assert found["kl"] == pytest.approx([0.25 * log(2), 0.25 * log(2) + 0.25 * log(2 / 3)])
    assert found["nll"] == pytest.approx([log(2), log(8 / 3)])
    assert found["agreement"] == [0.0, 1.0]
    # Σ min(p, q): what is left of each when a quarter, and an eighth, has moved elsewhere
    assert found["acceptance"] == pytest.approx([0.75, 0.875])


def test_a_clueless_student_is_as_far_as_entropy_allows() -> None:
    teacher = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    found = measured(teacher, torch.zeros(1, 4), [3])
    assert found["kl"] == pytest.approx([log(4) - 1.75 * log(2)])
    assert found["nll"] == pytest.approx([log(4)])
    assert found["acceptance"] == pytest.approx([0.25 + 0.25 + 0.125 + 0.125])


@given(st.integers(0, 10_000), st.floats(0.1, 30.0), st.floats(-1e3, 1e3))
def test_the_metrics_equal_full_float64_formulas_whatever_is_added_to_the_logits(
    seed: int, spread: float, offset: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(5, 11, generator=generator) * spread
    student = torch.randn(5, 11, generator=generator) * spread
    targets = torch.randint(11, (5,), generator=generator)
    found = measured(teacher + offset, student - offset, targets.tolist())
    log_p = (teacher + offset).double().log_softmax(dim=1)
    log_q = (student - offset).double().log_softmax(dim=1)
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    # float32 logits below 128: 11 products of at most that size
    assert found["kl"] == pytest.approx(kl.tolist(), rel=1e-5, abs=1e-4)
    nll = -log_q[torch.arange(5), targets]
    assert found["nll"] == pytest.approx(nll.tolist(), rel=1e-5, abs=1e-4)
    shared = torch.minimum(log_p.exp(), log_q.exp()).sum(dim=1)
    # probabilities: at most 1, off by what the logits are
    assert found["acceptance"] == pytest.approx(shared.tolist(), abs=1e-4)
    p, q = (teacher + offset).double(), (student - offset).double()
    angle = (p * q).sum(dim=1) / (p.norm(dim=1) * q.norm(dim=1))
    assert found["cosine"] == pytest.approx(angle.tolist(), abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [0.1, 3.0, 1e4])
def test_the_teacher_itself_is_exactly_zero_away(dtype: torch.dtype, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(64, 257, generator=generator) * spread).to(dtype)
    logits[:, 0] = logits.max(dim=1).values  # a tie: both must prefer the same token of the two
    found = measured(logits, logits, [0] * 64)
    assert found["kl"] == [0.0] * 64
    assert found["agreement"] == [1.0] * 64
    assert found["acceptance"] == [1.0] * 64
    assert found["cosine"] == [1.0] * 64


def test_certainty_gives_finite_values() -> None:
    teacher = torch.tensor([[1e4, 0.0, 0.0]])
    found = measured(teacher, torch.tensor([[0.0, 1e4, 0.0]]), [1])
    assert found == {
        "kl": [1e4], "nll": [0.0], "agreement": [0.0], "acceptance": [0.0], "cosine": [0.0],
    }  # fmt: skip


def test_what_is_measured_of_one_metric_leaves_the_others_alone() -> None:
    teacher, student = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    compared = compare(teacher, student, [0] * 6)
    once = {name: measure(compared).tolist() for name, measure in QUALITY.items()}
    again = {name: measure(compared).tolist() for name, measure in reversed(list(QUALITY.items()))}
    assert once == again


def test_the_cosine_of_known_angles_in_any_format() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        dense = torch.tensor([[1.0, 0.0], [3.0, 4.0], [200.0, 0.0], [1.0, 2.0]], dtype=dtype)
        student = torch.tensor([[1.0, 1.0], [-3.0, -4.0], [200.0, 200.0], [0, 0]], dtype=dtype)
        compared = compare(dense, student, [0] * 4, Head(lambda _: torch.zeros(4, 2)))
        found = QUALITY["cosine"](compared)
        assert found.dtype == torch.float32
        # 200² + 200² is beyond float16
        assert found.tolist() == pytest.approx([sqrt(0.5), -1.0, sqrt(0.5), 0.0], abs=1e-6)
