"""NLL of a window from its final hidden states, and its gradient, in chunks of positions."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from evaluators.scoring.ends import Head, Reading
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


def kl_sum(backbone: Backbone, head: Reading, final: Tensor, dense: Tensor) -> float:
    """Return the sum over positions that have a next token of a candidate's KL to the dense model.

    Args:
        backbone: The dense model.
        head: Of the candidate.
        final: Its final hidden states ``(windows, tokens, hidden)``.
        dense: Those of the dense model, likewise.
    """
    rows, teacher = final[:, :-1].flatten(0, 1), dense[:, :-1].flatten(0, 1)
    total = 0.0
    for start in range(0, len(rows), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        target = log_softmax(backbone.logits(teacher[part]).float(), dim=-1)
        ours = log_softmax(head(rows[part]).float(), dim=-1)
        total += float(kl_div(ours, target, reduction="sum", log_target=True))
    return total


def gradient_by_final(
    head: Reading, final: Tensor, loss: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Differentiate a next-token loss by the final hidden states.

    Args:
        head: That they are read out with.
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
        gradients.append(_by_rows(head, rows, part, loss))
    return by_final(torch.cat(gradients), final)


def by_final(by_rows: Tensor, final: Tensor) -> Tensor:
    """Return a gradient in the shape of final hidden states; zeros at each window's last token.

    Args:
        by_rows: That by the positions that have a next token, ``(positions, hidden)``.
        final: Final hidden states ``(windows, tokens, hidden)``.
    """
    whole = torch.zeros_like(final)
    whole[:, :-1] = by_rows.reshape(final[:, :-1].shape)
    return whole


def _by_rows(
    head: Reading, rows: Tensor, part: slice, loss: Callable[[Tensor, slice], Tensor]
) -> Tensor:
    """Differentiate a loss by some of what is read out, ``(positions, hidden)``."""
    linear = head.linear if isinstance(head, Head) and head.is_exact else None
    if linear is None:
        leaf = rows[part].clone().requires_grad_()
        with torch.enable_grad():
            value = loss(head(leaf).float(), part)
        return torch.autograd.grad(value, leaf)[0]
    with torch.no_grad():
        logits = head(rows[part]).float()
    with torch.enable_grad():
        value = loss(logits.requires_grad_(), part)
    return linear.by_hidden(torch.autograd.grad(value, logits)[0], logits.detach())


def drawn_by_final(head: Reading, final: Tensor, generator: torch.Generator) -> Tensor:
    """Differentiate −log q of tokens that are drawn from a model's own predictions q.

    The mean over draws of the gradient's outer product is the Fisher information of the final
    hidden states, whatever the text goes on with.

    Args:
        head: Of the model.
        final: Its final hidden states ``(windows, tokens, hidden)``.
        generator: Of the draws.

    Returns:
        As `gradient_by_final` does.
    """

    def likelihood(logits: Tensor, _: slice) -> Tensor:
        drawn = torch.multinomial(logits.detach().softmax(dim=-1), 1, generator=generator)
        return cross_entropy(logits, drawn[:, 0], reduction="sum")

    return gradient_by_final(head, final.detach(), likelihood)
