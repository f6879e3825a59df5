"""The layout of stacked experts, found by trial.

The right layout computes the same with channels removed as with channels masked.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.errors import StructureError
from search_spaces.models.tensors import tensor_at
from search_spaces.reading.expert_router import Routing, agrees
from search_spaces.reading.probe import LayerProbe
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.mixture import Mixture, Stack


def read_stacks(probe: LayerProbe, mixture: Mixture, routing: Routing) -> Mixture:
    """Find the role of each stack of the experts.

    Args:
        probe: The layer.
        mixture: Its experts, without stacks yet.
        routing: Of these experts.

    Raises:
        StructureError: If they are laid out in a way that the planner does not know.
    """
    for stacks, width in _layouts(probe, routing):
        trial = replace(mixture, channel_count=width, stacks=stacks)
        fewer = max(1, width // 2)
        expected = _with_masked_channels(probe, trial, fewer)
        if agrees(probe, trial, routing.count, expected, BlockOptions(channels=fewer)):
            return trial
    raise StructureError(
        f"the experts of `{probe.path}.{routing.holder}` must compute the same with channels "
        "removed as with channels masked, and they do not however their weights are read; these "
        "experts are laid out in a way that the planner does not know"
    )


def _layouts(probe: LayerProbe, routing: Routing) -> Iterator[tuple[tuple[Stack, ...], int]]:
    """Yield possible layouts of the stacks, with the number of channels of an expert."""
    holder = probe.layer.get_submodule(routing.holder)
    weights = {
        f"{routing.holder}.{name}": weight
        for name, weight in holder.named_parameters(recurse=False)
        if len(weight) == routing.count
    }
    matrices = [path for path, weight in weights.items() if weight.ndim == 3]
    if len(matrices) != 2:
        return
    # the down projection comes last in every class that is known
    for down in reversed(matrices):
        for up_transposed, down_transposed, interleaved in product((False, True), repeat=3):
            transposed = dict.fromkeys(matrices, up_transposed) | {down: down_transposed}
            sizes = {
                path: _channel_features(
                    weights[path],
                    routing.hidden,
                    is_down=path == down,
                    transposed=transposed[path],
                )
                for path in matrices
            }
            width = sizes[down]
            if not width or any(not size or size % width for size in sizes.values()):
                continue
            stacks = [
                Stack(
                    path=path,
                    role="down" if path == down else "up",
                    channels=_channels(width, sizes[path] // width, interleaved=interleaved),
                    transposed=transposed[path],
                )
                for path in matrices
            ]
            biases = [path for path, weight in weights.items() if weight.ndim == 2]
            stacks += [
                _bias(path, weights[path].shape[1], width, down, interleaved=interleaved)
                for path in biases
            ]
            yield tuple(stacks), width


def _channel_features(weight: Tensor, hidden: int, *, is_down: bool, transposed: bool) -> int:
    """Return the size of the axis of channels; 0: the other axis is not that of hidden states."""
    outputs, inputs = weight.shape[:0:-1] if transposed else weight.shape[1:]
    channels, other = (inputs, outputs) if is_down else (outputs, inputs)
    return int(channels) if other == hidden else 0


def _channels(width: int, parts: int, *, interleaved: bool) -> NDArray[np.int_]:
    channels = np.arange(width)
    return np.repeat(channels, parts) if interleaved else np.tile(channels, parts)


def _bias(path: str, size: int, width: int, down: str, *, interleaved: bool) -> Stack:
    """Return a bias, its role taken from the name of its matrix, for sizes may be equal."""
    if path.startswith(down) or size % width:
        return Stack(path=path, role="down_bias", channels=np.empty(0, dtype=np.int_))
    channels = _channels(width, size // width, interleaved=interleaved)
    return Stack(path=path, role="up_bias", channels=channels)


def _with_masked_channels(probe: LayerProbe, mixture: Mixture, kept_count: int) -> Tensor:
    """Run the dense layer with all but the first channels masked."""
    down = mixture.stack("down")
    assert down.axis is not None
    weight = tensor_at(probe.layer, down.path)
    shape = [1, 1, 1]
    shape[down.axis] = len(down.channels)
    mask = torch.from_numpy(down.channels < kept_count).to(weight).view(shape)
    with _replaced_weights(probe.layer, {down.path: weight * mask}):
        return probe.run().result


@contextmanager
def _replaced_weights(layer: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Replace weights of a layer for as long as the context lasts."""
    originals: list[tuple[nn.Module, str, nn.Parameter | None]] = []
    for path, weight in weights.items():
        holder, _, name = path.rpartition(".")
        owner = layer.get_submodule(holder)
        originals.append((owner, name, owner._parameters[name]))
        owner._parameters[name] = nn.Parameter(weight, requires_grad=False)
    try:
        yield
    finally:
        for owner, name, original in originals:
            owner._parameters[name] = original
