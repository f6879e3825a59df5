"""Published algorithms written down literally and slowly, to compare the fast ones with."""

import torch
from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern

DAMPING = 0.01
BLOCK = 128


def wanda_reference(weight: Tensor, second_moment: Tensor, pattern: SparsityPattern) -> Tensor:
    """Wanda, weight by weight.

    Args:
        weight: ``(rows, columns)``.
        second_moment: Mean of the squared inputs, ``(columns,)``.
        pattern: How many weights go.
    """
    norms = second_moment.sqrt().tolist()
    pruned = weight.clone()
    width = pattern.group or weight.shape[1]
    each = pattern.group - pattern.keep if pattern.group else pattern.zeros_each_row(width)
    for row, values in enumerate(weight.tolist()):
        scores = [abs(value) * norm for value, norm in zip(values, norms, strict=True)]
        gone: list[int] = []
        for start in range(0, len(values), width):
            gone += sorted(range(start, start + width), key=scores.__getitem__)[:each]
        pruned[row, gone] = 0.0
    return pruned


def sparsegpt_reference(weight: Tensor, gram: Tensor, pattern: SparsityPattern) -> Tensor:
    """SparseGPT, column by column, in float64.

    The inverse of the Gram matrix of the columns from a block's first on is taken anew for every
    block; inside of it one column after the other is eliminated. No factor, no lazy updates. As in
    the published code, weights of inputs that were never seen are zero from the start.

    Args:
        weight: ``(rows, columns)``.
        gram: ``(columns, columns)``.
        pattern: How many weights go; groups must part blocks of 128.
    """
    work, hessian = weight.double().clone(), gram.double().clone()
    rows, columns = work.shape
    dead = hessian.diagonal() == 0
    work[:, dead] = 0.0
    hessian[dead, dead] = hessian.diagonal()[~dead].mean()
    hessian += DAMPING * hessian.diagonal().mean() * torch.eye(columns).double()
    zeros = torch.zeros(rows, columns, dtype=torch.bool)
    for column in range(columns):
        if column % BLOCK == 0:
            inverses = _inverse_rows(hessian[column:, column:])
        row = inverses[column % BLOCK]  # of the inverse once all earlier columns are gone
        if pattern.group and column % pattern.group == 0:
            own = range(column, column + pattern.group)
            scores = torch.stack([work[:, k] ** 2 / inverses[k % BLOCK][0] for k in own], dim=1)
            order = scores.argsort(dim=1, stable=True)[:, : pattern.group - pattern.keep]
            zeros[:, column : column + pattern.group].scatter_(1, order, value=True)
        if not pattern.group and column % BLOCK == 0:
            stop = min(column + BLOCK, columns)
            diagonal = torch.stack([inverse[0] for inverse in inverses])
            scores = work[:, column:stop] ** 2 / diagonal
            each = stop * pattern.percent // 100 - column * pattern.percent // 100
            order = scores.flatten().argsort(stable=True)[: rows * each]
            zeros[order // (stop - column), column + order % (stop - column)] = True
        error = torch.where(zeros[:, column], work[:, column] / row[0], 0.0)
        work[:, column:].addr_(error, row, alpha=-1.0)
    return work.masked_fill(zeros, 0.0).to(weight.dtype)


def _inverse_rows(hessian: Tensor) -> list[Tensor]:
    """Give for each column of a block its row of the inverse without the columns before it."""
    rows = torch.linalg.inv(hessian)[:BLOCK].clone()
    found = []
    for column in range(len(rows)):
        own = rows[column, column:].clone()
        found.append(own)
        rows[column + 1 :, column:].addr_(rows[column + 1 :, column] / own[0], own, alpha=-1.0)
    return found
