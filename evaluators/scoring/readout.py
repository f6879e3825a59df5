"""From final hidden states to quality: head, teacher and divergences, chunk by chunk.

The teacher is kept as hidden states, and its logits are computed again next to those of several
candidates at once: that is exact, whereas keeping its top tokens with the mass of the tail would
bias the divergence low, and smaller than either.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.metric import METRICS
from evaluators.quality import QUALITY
from evaluators.quality.comparison import Comparison, Teacher
from evaluators.scoring.ends import Head
from search_spaces.structure.backbone import Backbone

LOGITS_BYTES = 16 * 2**20
"""Size of one chunk of logits: small next to a model, large enough to multiply well."""


class Readout:
    """The scored positions of one batch of windows, with the dense model's predictions there.

    Args:
        backbone: The model.
        tokens: Token ids ``(windows, tokens)``.
        final: The dense model's final hidden states ``(windows, tokens, hidden)``.
        positions: Those scored in each window, ``(windows, positions)``; each needs a next token.
        metrics: Names of what is measured.
    """

    def __init__(
        self,
        backbone: Backbone,
        tokens: Tensor,
        final: Tensor,
        positions: NDArray[np.int_],
        metrics: Sequence[str],
    ) -> None:
        self._backbone = backbone
        self._measures = {name: QUALITY[name] for name in metrics}
        lowest = [[METRICS[name].lowest] for name in metrics]
        self._lowest = torch.tensor(lowest, dtype=torch.float64, device=tokens.device)
        self._windows = len(tokens)
        rows = np.arange(len(tokens))[:, None] * tokens.shape[1] + positions
        self._rows = torch.from_numpy(rows.ravel()).to(tokens.device)
        self._teacher = self.pick(final)
        self._targets = tokens.flatten()[self._rows + 1]
        vocabulary = backbone.model.config.get_text_config().vocab_size
        self._chunk = max(1, LOGITS_BYTES // (4 * vocabulary))

    def pick(self, final: Tensor) -> Tensor:
        """Return those hidden states of a batch that are scored, ``(positions, hidden)``."""
        return final.flatten(0, 1)[self._rows]

    def compare(
        self, finals: Sequence[Tensor], head: Head | None = None
    ) -> list[dict[str, NDArray[np.float64]]]:
        """Measure candidates against the teacher.

        Args:
            finals: Of each candidate, as `pick` returns them.
            head: That all of them are read out with; None: the dense model's.

        Returns:
            For each candidate, by metric, the mean over each window's positions, ``(windows,)``.
        """
        read = head or self._backbone.logits
        values: list[list[Tensor]] = [[] for _ in finals]
        for start in range(0, len(self._targets), self._chunk):
            part = slice(start, start + self._chunk)
            dense = self._teacher[part]
            teacher = Teacher.of(self._backbone.logits(dense), dense)
            for chunks, final in zip(values, finals, strict=True):
                chunks.append(self._measure(read, final[part], teacher, self._targets[part]))
        return [self._by_window(torch.cat(chunks, dim=1)) for chunks in values]

    def _measure(self, read: Head, final: Tensor, teacher: Teacher, targets: Tensor) -> Tensor:
        """Return each metric at some positions, ``(metrics, positions)``; no logits outlive it."""
        compared = Comparison.of(read(final), teacher, targets, final)
        return torch.stack([measure(compared) for measure in self._measures.values()])

    def _by_window(self, values: Tensor) -> dict[str, NDArray[np.float64]]:
        means = values.double().reshape(len(self._measures), self._windows, -1).mean(dim=2)
        means = means.maximum(self._lowest)  # NaN stays
        return dict(zip(self._measures, means.cpu().numpy(), strict=True))
