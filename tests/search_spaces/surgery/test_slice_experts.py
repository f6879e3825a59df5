"""Experts sliced, masked and really cut compute the same; sorted ones what they did before."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.models.tensors import tensor_at
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, ExpertPruning
from search_spaces.space.orders import Orders
from search_spaces.structure.expert_hooks import masked_router
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut, narrowed
from search_spaces.surgery.sort import sort_units_
from tests.models.mixed_configurations import orders_of
from tests.models.moe_families import CHANNELS, EACH_MOE_FAMILY, MOE_FAMILIES, mixture
from tests.models.parts import experts_in

KEPT_CHANNELS = 10


@pytest.fixture(params=EACH_MOE_FAMILY)
def sorted_mixture(request: pytest.FixtureRequest) -> tuple[ModelStructure, Orders]:
    """A family's model in an order of its own, and that order."""
    structure = copy.deepcopy(mixture(request.param))
    orders = orders_of(structure)
    sort_units_(structure, orders)
    return structure, orders


def _last(structure: ModelStructure) -> tuple[nn.Module, Mixture, int]:
    """The last layer, its experts and their position: all families end in a mixture."""
    index = len(structure.layers) - 1
    component = experts_in(structure.layers[index])
    assert component is not None
    return structure.backbone.layers[index], component, structure.spans[index].start + 1


@torch.no_grad()
def _run(structure: ModelStructure, layer: nn.Module) -> Tensor:
    """Run a layer in the place of the last one."""
    backbone = structure.backbone
    tokens = torch.arange(2 * 24).reshape(2, 24) % 96
    inputs = backbone.enter(tokens)
    hidden = inputs.hidden + torch.randn(inputs.hidden.shape, generator=torch.manual_seed(3))
    return backbone.run_layer(layer, hidden, inputs.calls[-1])


@contextmanager
def _masked(
    structure: ModelStructure, members: NDArray[np.int_], channels: int, top_k: int
) -> Iterator[nn.Module]:
    """The dense layer, blind to the experts and channels that go."""
    layer, experts, _ = _last(structure)
    layer = copy.deepcopy(layer)
    for path, name in experts.top_k_attributes if top_k else ():
        setattr(layer.get_submodule(path), name, top_k)
    down = experts.stack("down")
    assert down.axis is not None
    shape = [1, 1, 1]
    shape[down.axis] = CHANNELS
    mask = torch.from_numpy(down.channels < (channels or CHANNELS)).float()
    tensor_at(layer, down.path).mul_(mask.view(shape))
    gone = torch.ones(experts.member_count, dtype=torch.bool)
    gone[torch.from_numpy(members)] = False
    with masked_router(layer, experts, gone):
        yield layer


@pytest.mark.parametrize(
    "options",
    [
        DENSE_OPTIONS,
        BlockOptions(channels=KEPT_CHANNELS),
        BlockOptions(top_k=1),
        BlockOptions(channels=3, top_k=1),
    ],
)
def test_sliced_equals_masked_equals_cut(
    sorted_mixture: tuple[ModelStructure, Orders], options: BlockOptions
) -> None:
    structure, orders = sorted_mixture
    layer, component, position = _last(structure)
    experts = component
    if options.top_k and not experts.top_k_attributes:
        pytest.skip("its code fixes how many run")
    count = experts.lowest if experts.lowest < component.unit_count else component.unit_count
    members = component.members(np.arange(component.member_count), count)
    with _masked(structure, members, options.channels, options.top_k) as masked:
        expected = _run(structure, masked)
    sliced = _run(structure, narrowed(layer, [(component, count)], options=[options]))
    torch.testing.assert_close(sliced, expected, rtol=1e-4, atol=1e-5)

    sort_units_(structure, orders.inverse())
    kept = np.sort(component.members(orders[position], count))
    channels = None
    if options.channels:
        channels = np.sort(orders.channels[position][kept, : options.channels], axis=1)
    expert_pruning = ExpertPruning(channels=channels, top_k=options.top_k)
    small = cut(layer, [(component, kept)], insides=[expert_pruning])
    torch.testing.assert_close(_run(structure, small), expected, rtol=1e-4, atol=1e-5)
    held = sum(weight.numel() for weight in small.parameters())
    whole = sum(weight.numel() for weight in layer.parameters())
    assert held < whole or (count == component.unit_count and not options.channels)


def test_sorting_keeps_the_function_and_its_inverse_every_bit(
    sorted_mixture: tuple[ModelStructure, Orders],
) -> None:
    structure, orders = sorted_mixture
    before = mixture(next(n for n in MOE_FAMILIES if _same(structure, n)))
    tokens = torch.arange(16)[None]
    logits = structure.backbone.model(tokens).logits
    torch.testing.assert_close(logits, before.backbone.model(tokens).logits, rtol=1e-4, atol=1e-4)
    sort_units_(structure, orders.inverse())
    own = dict(before.backbone.model.named_parameters())
    for name, weight in structure.backbone.model.named_parameters():
        assert torch.equal(weight, own[name]), name


def _same(structure: ModelStructure, name: str) -> bool:
    return type(structure.backbone.model) is type(mixture(name).backbone.model)


def test_dropped_experts_leave_the_shared_one(
    sorted_mixture: tuple[ModelStructure, Orders],
) -> None:
    structure, _ = sorted_mixture
    layer, component, _ = _last(structure)
    shared = [b for b in structure.layers[-1].feed_forward if b.kind == "shared"]
    without = _run(structure, narrowed(layer, [(component, 0)]))
    bare = _run(structure, narrowed(layer, [(component, 0), *((b, 0) for b in shared)]))
    assert torch.equal(without, bare) is not bool(shared)
    assert not torch.equal(without, _run(structure, layer))


def test_only_experts_that_are_kept_are_touched() -> None:
    structure = copy.deepcopy(mixture("mixtral"))
    layer, component, _ = _last(structure)
    narrow = narrowed(layer, [(component, 3)], options=[BlockOptions(channels=4)])
    tensor_at(layer, component.stack("up").path)[3:] = torch.nan
    assert _run(structure, narrow).isfinite().all()
    path = component.stack("down").path
    prefix = tensor_at(narrowed(layer, [(component, 3)]), path)
    assert len(prefix) == 3
    assert prefix.data_ptr() == tensor_at(layer, path).data_ptr()
