"""NLL of a window from its final hidden states, and its gradient, in chunks of positions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from search_spaces.structure.backbone import Backbone

_POSITIONS_AT_ONCE = 128


def nll_sum(backbone: Backbone, final: Tensor, tokens: Tensor) -> float:
    """Return the sum of −log q of each next token, in nats.

    Args:
        backbone: The model.
        final: Final hidden states ``(windows, tokens, hidden)``.
        tokens: Token ids ``(windows, tokens)``.
    """
    rows, targets = final[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    total = 0.0
    for start in range(0, len(rows), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        logits = backbone.logits(rows[part]).float()
        total += float(cross_entropy(logits, targets[part], reduction="sum"))
    return total


def gradient_by_final(
    backbone: Backbone, final: Tensor, loss: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Differentiate a next-token loss by the final hidden states.

    Args:
        backbone: The model.
        final: Final hidden states ``(windows, tokens, hidden)``, without a graph.
        loss: Given the logits ``(positions, vocabulary)`` in float32 of some of the positions
            that have a next token, and which they are, returns their sum of losses.

    Returns:
        ``(windows, tokens, hidden)``; zeros at each window's last token.
    """
    rows = final[:, :-1].flatten(0, 1)
    gradients = []
    for start in range(0, len(rows), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        leaf = rows[part].clone().requires_grad_()
        with torch.enable_grad():
            value = loss(backbone.logits(leaf).float(), part)
        gradients.append(torch.autograd.grad(value, leaf)[0])
    by_row = torch.zeros_like(final)
    by_row[:, :-1] = torch.cat(gradients).reshape(final[:, :-1].shape)
    return by_row
