"""Reading a head out in tiles against whole rows of logits: time, and distance from float64."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from benchmarks.duel import FASTER
from benchmarks.report import Goal, Row
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE
from evaluators.scoring.readout import LOGITS_BYTES, Readout
from search_spaces.structure.backbone import Backbone

SMOLLM2, LARGE = (49_152, 576), (262_144, 640)
"""Vocabulary and width of heads."""
WINDOWS, POSITIONS = 2, 128
NOISE = 0.2
"""Of candidates' hidden states, as a share of the dense model's."""

NOTES = f"""
**The head by itself.** {HEADS_AT_ONCE} candidates are read out at {WINDOWS * POSITIONS} positions,
of heads with random weights in the sizes of SmolLM2-135M's and of one with 262 thousand tokens.
*rows* is as it was before: the logits of the whole vocabulary for as many positions as 16 MiB
hold, the teacher's beside them, and an average over its probabilities row by row. *tiles* is the
readout of candidates, which has digested the teacher before, as in a search. *product* is the
matrix product of one candidate alone. Seconds a candidate, medians. *gap* is the distance of a
candidate's KL from that of float64.
"""


@dataclass(frozen=True)
class Case:
    """A head, and hidden states that it reads."""

    model: PreTrainedModel
    dense: Tensor
    """``(windows, tokens, hidden)``"""
    finals: Sequence[Tensor]
    """Of each candidate, ``(positions, hidden)``."""

    @classmethod
    def of(cls, vocabulary: int, width: int, dtype: torch.dtype) -> "Case":
        """Draw one."""
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
        )
        model = LlamaForCausalLM(config).to(dtype).eval()  # type: ignore[arg-type]
        model.get_parameter("model.embed_tokens.weight").data.mul_(5)  # logits of some nats
        dense = torch.randn(WINDOWS, POSITIONS + 1, width)
        rows = dense[:, :-1].flatten(0, 1)
        finals = [rows + NOISE * torch.randn_like(rows) for _ in range(HEADS_AT_ONCE)]
        return cls(model, dense.to(dtype), [final.to(dtype) for final in finals])

    @property
    def weight(self) -> Tensor:
        """Of the head."""
        return self.model.get_parameter("model.embed_tokens.weight")


@torch.inference_mode()
def compared(repeats: int) -> tuple[list[Row], list[Goal]]:
    """Return a line for each head in each format, and the goal of the larger one."""
    rows: list[Row] = []
    faster: dict[str, float] = {}
    for vocabulary, width in (SMOLLM2, LARGE):
        for dtype in (torch.float32, torch.bfloat16):
            row = _line(Case.of(vocabulary, width, dtype), repeats)
            rows.append(row)
            if (vocabulary, width) == LARGE:
                faster[str(row["format"])] = float(row["faster"])
    goal = Goal(
        figure=f"readout of 262k tokens in {FASTER}, faster",
        value=faster[FASTER],
        limit=5.0,
        at_least=True,
    )
    return rows, [goal]


def _line(case: Case, repeats: int) -> Row:
    tokens = torch.zeros(WINDOWS, POSITIONS + 1, dtype=torch.long)
    positions = np.tile(np.arange(POSITIONS), (WINDOWS, 1))
    readout = Readout(Backbone(case.model), tokens, case.dense, positions, ("kl", "nll"))
    teacher = readout.pick(case.dense)
    tiles = np.array([one["kl"].mean() for one in readout.compare(case.finals)])
    rows = np.array([kl.mean().item() for kl in whole_rows(case.weight, teacher, case.finals)])
    exact = _exact(case.weight, teacher, case.finals[0])
    count = len(case.finals)
    old = _seconds(lambda: whole_rows(case.weight, teacher, case.finals), repeats) / count
    new = _seconds(lambda: readout.compare(case.finals), repeats) / count
    product = _seconds(lambda: case.finals[0] @ case.weight.T, repeats)
    return {
        "head": " x ".join(f"{size:,}" for size in case.weight.shape),
        "format": str(case.weight.dtype).removeprefix("torch."),
        "s, rows": old,
        "s, tiles": new,
        "s, product": product,
        "faster": old / new,
        "of product": new / product,
        "gap, rows": abs(float(rows[0]) - exact),
        "gap, tiles": abs(float(tiles[0]) - exact),
    }


def whole_rows(weight: Tensor, dense: Tensor, finals: Sequence[Tensor]) -> list[Tensor]:
    """Return the KL of candidates at each position, from logits of the whole vocabulary."""
    at_once = max(1, LOGITS_BYTES // (4 * len(weight)))
    values: list[list[Tensor]] = [[] for _ in finals]
    for start in range(0, len(dense), at_once):
        part = slice(start, start + at_once)
        shifted = _shifted(dense[part] @ weight.T)
        probabilities = shifted.exp()
        total = probabilities.sum(dim=-1, keepdim=True)
        probabilities /= total
        negative_entropy = _dots(probabilities, shifted) - total.squeeze(1).log()
        for found, final in zip(values, finals, strict=True):
            logits = _shifted(final[part] @ weight.T)
            expected = _dots(probabilities, logits)
            found.append(negative_entropy - expected + logits.exp_().sum(dim=-1).log())
    return [torch.cat(found) for found in values]


def _shifted(logits: Tensor) -> Tensor:
    logits = logits.float()
    return logits.sub_(logits.amax(dim=-1, keepdim=True))


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return torch.stack([torch.dot(a, b) for a, b in zip(left, right, strict=True)])


def _exact(weight: Tensor, dense: Tensor, final: Tensor) -> float:
    """Return the mean KL in float64, a few positions at a time."""
    total, wide = 0.0, weight.double()
    for one, other in zip(
        torch.split(dense.double(), 32), torch.split(final.double(), 32), strict=True
    ):
        log_p, log_q = (one @ wide.T).log_softmax(1), (other @ wide.T).log_softmax(1)
        total += float((log_p.exp() * (log_p - log_q)).sum())
    return total / len(dense)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
