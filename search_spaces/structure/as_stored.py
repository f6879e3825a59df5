"""A model as it lies on disk, for costs that count bytes: its shapes and number formats."""

import copy
from dataclasses import replace

import torch
from torch import nn

from search_spaces.models.layer_stack import find_stack
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure


def as_stored(structure: ModelStructure, stored: StoredFormat) -> ModelStructure:
    """Return a structure without numbers whose weights are in the dtypes they have on disk.

    Args:
        structure: In the dtype that is computed in.
        stored: The formats on disk.
    """
    model = structure.backbone.model
    # what `deepcopy` finds here it takes in the place of a copy
    memo: dict[int, object] = {}
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        empty = torch.empty(weight.shape, dtype=stored.of(name, weight), device="meta")
        is_weight = isinstance(weight, nn.Parameter)
        memo[id(weight)] = nn.Parameter(empty, requires_grad=False) if is_weight else empty
    backbone = copy.copy(structure.backbone)
    backbone.model = copy.deepcopy(model, memo)
    backbone.stack = find_stack(backbone.model)
    backbone.layers = tuple(backbone.stack.layers.values())
    return replace(structure, backbone=backbone)
