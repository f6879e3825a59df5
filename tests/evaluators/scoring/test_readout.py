"""From final hidden states to quality."""

import numpy as np
import torch

from evaluators.quality.kl import kl
from evaluators.scoring.ends import Head
from evaluators.scoring.readout import Readout
from evaluators.scoring.teacher_block import TeacherBlock
from tests.models import tiny

BACKBONE = tiny.llama().backbone


@torch.no_grad()
def test_no_rounding_makes_the_kl_of_a_window_negative() -> None:
    backbone, tokens = BACKBONE, tiny.windows(16, 6)
    hidden = torch.randn(16, 6, 32, generator=torch.Generator().manual_seed(0))
    nearly = hidden * (1 + 1e-7)  # the last digit of a float32
    readout = Readout(backbone, tokens, hidden, np.tile(np.arange(5), (16, 1)), ("kl", "nll"))
    (measured,) = readout.compare([readout.pick(nearly)])
    assert (measured["kl"] >= 0).all()
    assert (measured["kl"] < 1e-6).all()

    rows = hidden[:, :5].flatten(0, 1)
    head = Head.of(backbone)
    block = TeacherBlock(head, rows, head.parts)
    (compared,) = block.compare(
        [nearly[:, :5].flatten(0, 1)], tokens[:, 1:].flatten(), head, with_gaps=False
    )
    by_position = kl(compared)
    means = by_position.reshape(16, 5).double().mean(dim=1)
    assert (means < 0).any()  # else there was nothing to mend
    positive = (means > 0).numpy()
    assert (measured["kl"][positive] == means.numpy()[positive]).all()


@torch.no_grad()
def test_a_kl_that_is_no_number_stays_none() -> None:
    backbone, tokens = BACKBONE, tiny.windows(1, 4)
    hidden = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0))
    readout = Readout(backbone, tokens, hidden, np.arange(3)[None], ("kl",))
    (measured,) = readout.compare([readout.pick(hidden * torch.inf)])
    assert np.isnan(measured["kl"]).all()
