"""The stack of layers of a model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import nn
from transformers import PreTrainedModel

from search_spaces.errors import StructureError

_PART = re.compile(r"part_\d+")


@dataclass(frozen=True, kw_only=True)
class LayerStack:
    """What a decoder runs one after another, and the layers in it."""

    path: str
    """Of the list that the decoder runs."""
    blocks: nn.ModuleList
    """That list: the layers, or blocks of several layers each, as an export of ours has them."""
    layers: Mapping[str, nn.Module]
    """By their paths in the model, in the order in which they run."""

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {path: index for index, path in enumerate(self.layers)}

    def layer_of(self, name: str) -> int | None:
        """Return the number of the layer that holds a tensor of the model; None: none does."""
        depth = next(iter(self.layers)).count(".") + 1
        return self._numbers.get(".".join(name.split(".")[:depth]))


def find_stack(model: PreTrainedModel) -> LayerStack:
    """Return a model's layers.

    Raises:
        StructureError: If it does not hold them in one list.
    """
    count = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count > 0:
            return LayerStack(path=path, blocks=module, layers=_layers(path, module))
    raise StructureError(
        f"a model must hold its layers in one list of {count} modules, and "
        f"{type(model).__name__} has none; this architecture cannot be read"
    )


def _layers(path: str, blocks: nn.ModuleList) -> dict[str, nn.Module]:
    """Return the layers of a stack; modules that hold numbered parts and nothing else are blocks.

    That is how ``planner/targets/hf/modeling_pruned.py`` names them.
    """
    children = [dict(block.named_children()) for block in blocks]
    if not all(parts and all(map(_PART.fullmatch, parts)) for parts in children):
        return {f"{path}.{index}": layer for index, layer in enumerate(blocks)}
    return {
        f"{path}.{index}.{name}": part
        for index, parts in enumerate(children)
        for name, part in parts.items()
    }
