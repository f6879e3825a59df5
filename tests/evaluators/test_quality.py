from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evaluators.quality import QUALITY
from evaluators.quality.comparison import Comparison, Teacher


def measured(teacher: Tensor, student: Tensor, targets: list[int]) -> dict[str, list[float]]:
    compared = Comparison.of(student.clone(), Teacher.of(teacher), torch.tensor(targets))
    return {name: measure(compared).tolist() for name, (_, measure) in QUALITY.items()}


def test_the_metrics_of_a_distribution_with_known_logarithms() -> None:
    teacher = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]).log()
    student = torch.tensor([[0.25, 0.5, 0.25], [0.5, 0.125, 0.375]]).log()
    found = measured(teacher, student, [1, 2])
    # Σ p log (p / q): halves and quarters that swap places; a quarter that becomes an eighth
    assert found["kl"] == pytest.approx([0.25 * log(2), 0.25 * log(2) + 0.25 * log(2 / 3)])
    assert found["nll"] == pytest.approx([log(2), log(8 / 3)])
    assert found["agreement"] == [0.0, 1.0]


def test_a_clueless_student_is_as_far_as_entropy_allows() -> None:
    teacher = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    found = measured(teacher, torch.zeros(1, 4), [3])
    assert found["kl"] == pytest.approx([log(4) - 1.75 * log(2)])
    assert found["nll"] == pytest.approx([log(4)])


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [0.1, 3.0, 1e4])
def test_the_teacher_itself_is_exactly_zero_away(dtype: torch.dtype, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(64, 257, generator=generator) * spread).to(dtype)
    logits[:, 0] = logits.max(dim=1).values  # a tie: both must prefer the same token of the two
    found = measured(logits, logits, [0] * 64)
    assert found["kl"] == [0.0] * 64
    assert found["agreement"] == [1.0] * 64


def test_certainty_gives_finite_values() -> None:
    teacher = torch.tensor([[1e4, 0.0, 0.0]])
    found = measured(teacher, torch.tensor([[0.0, 1e4, 0.0]]), [1])
    assert found == {"kl": [1e4], "nll": [0.0], "agreement": [0.0]}


def test_the_teachers_logits_are_left_as_they_are() -> None:
    teacher = torch.tensor([[1.0, 2.0, 3.0]])
    Teacher.of(teacher)
    assert teacher.tolist() == [[1.0, 2.0, 3.0]]
