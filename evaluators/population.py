"""Sending a population of candidates through a model as a prefix tree.

Candidates that agree up to a layer share the hidden states up to there. The tree is walked depth
first, so that memory grows with the depth of the model and not with the population.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.read import ModelStructure
from search_spaces.surgery import narrowed

Counts = NDArray[np.int_]
"""Units kept in each sub-block, ``(candidates, sub_blocks)``: attention, MLP, attention, …"""


class PrefixTree:
    """Runs narrow candidates of one sorted model, each shared prefix once.

    Args:
        structure: The model, its units sorted so that the first ones stay.
    """

    def __init__(self, structure: ModelStructure) -> None:
        self.structure = structure
        self._backbone = structure.backbone
        self.sub_block_runs = 0
        """Sub-blocks executed since the start, dropped ones not counted."""

    def walk(self, counts: Counts, inputs: LayerInputs) -> Iterator[tuple[int, Tensor]]:
        """Give the final hidden states of each candidate, in the tree's order.

        Args:
            counts: Kept units, ``(candidates, sub_blocks)``.
            inputs: What enters the stack for one batch of tokens.

        Yields:
            Position of the candidate, and hidden states ``(batch, tokens, hidden)`` after the
            final norm. The same as a candidate by itself would give, bit for bit.
        """
        yield from self._descend(counts, np.arange(len(counts)), inputs.hidden, 0, inputs)

    def _descend(
        self,
        counts: Counts,
        members: NDArray[np.int_],
        hidden: Tensor,
        depth: int,
        inputs: LayerInputs,
    ) -> Iterator[tuple[int, Tensor]]:
        if depth == len(self.structure.layers):
            final = self._backbone.leave(hidden)
            yield from ((int(member), final) for member in members)
            return
        choices = counts[members, 2 * depth : 2 * depth + 2]
        for choice in np.unique(choices, axis=0):
            below = members[(choices == choice).all(axis=1)]
            after = self._run(depth, choice, hidden, inputs)
            yield from self._descend(counts, below, after, depth + 1, inputs)

    def _run(self, depth: int, choice: Counts, hidden: Tensor, inputs: LayerInputs) -> Tensor:
        layer = self.structure.layers[depth]
        self.sub_block_runs += int(np.count_nonzero(choice))
        if layer.vanishes and not choice.any():
            return hidden
        narrow = self._narrow(depth, int(choice[0]), int(choice[1]))
        return self._backbone.run_layer(narrow, hidden, inputs.calls[depth])

    def _narrow(self, depth: int, attention_count: int, mlp_count: int) -> nn.Module:
        layer = self.structure.layers[depth]
        dense = self._backbone.layers[depth]
        return narrowed(dense, [(layer.attention, attention_count), (layer.mlp, mlp_count)])
