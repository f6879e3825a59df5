"""From rows and columns of matrices to the units that they belong to."""

import torch
from torch import Tensor

from search_spaces.structure.components import Projection


def by_unit(projection: Projection, features: Tensor) -> Tensor:
    """Sum values ``(features,)`` of a projection's rows or columns: ``(units,)``."""
    positions = torch.from_numpy(projection.by_unit).to(features.device)
    return features[positions].sum(dim=1)


def along(projection: Projection) -> int:
    """Return the axis of a projection's matrix whose entries belong to no unit alone."""
    return 1 if projection.side == "rows" else 0
