"""From final hidden states to quality: head, teacher and divergences, tile by tile.

The teacher is kept as what its predictions come to. A candidate's logits are computed in tiles of
the vocabulary that stay in the cache, and only what they come to outlives a tile.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.metric import METRICS
from evaluators.quality import QUALITY
from evaluators.scoring.ends import Head
from evaluators.scoring.teacher_block import TeacherBlock
from search_spaces.structure.backbone import Backbone

ROWS = 1024
"""Positions at once: with a tile of the vocabulary 8 MiB of logits, small next to a model and its
cache, and large enough to multiply well."""
LOGITS_BYTES = 16 * 2**20
"""Bound on the logits at once of a head that gives those of the whole vocabulary alone."""


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
        self._head = Head.of(backbone)
        self._measures = {name: QUALITY[name] for name in metrics}
        self._compares_distributions = any(METRICS[m].compares_distributions for m in metrics)
        lowest = [[METRICS[name].lowest] for name in metrics]
        self._lowest = torch.tensor(lowest, dtype=torch.float64, device=tokens.device)
        self._windows = len(tokens)
        rows = np.arange(len(tokens))[:, None] * tokens.shape[1] + positions
        self._rows = torch.from_numpy(rows.ravel()).to(tokens.device)
        self._hidden = self.pick(final)
        self._targets = tokens.flatten()[self._rows + 1]
        vocabulary = backbone.model.config.get_text_config().vocab_size
        self._parts = self._head.parts
        whole = max(1, LOGITS_BYTES // (4 * vocabulary))
        at_once = whole if self._head.formula is None else ROWS
        starts = range(0, len(self._targets), at_once)
        self._places = [slice(start, start + at_once) for start in starts]

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
        values: list[list[Tensor]] = [[] for _ in finals]
        for place, block in zip(self._places, self._blocks, strict=True):
            compared = block.compare(
                [final[place] for final in finals],
                self._targets[place],
                head or self._head,
                with_gaps=self._compares_distributions,
            )
            for parts, one in zip(values, compared, strict=True):
                parts.append(torch.stack([measure(one) for measure in self._measures.values()]))
        return [self._by_window(torch.cat(parts, dim=1)) for parts in values]

    @cached_property
    def _blocks(self) -> list[TeacherBlock]:
        return [TeacherBlock(self._head, self._hidden[p], self._parts) for p in self._places]

    def _by_window(self, values: Tensor) -> dict[str, NDArray[np.float64]]:
        means = values.double().reshape(len(self._measures), self._windows, -1).mean(dim=2)
        means = means.maximum(self._lowest)  # NaN stays
        return dict(zip(self._measures, means.cpu().numpy(), strict=True))
