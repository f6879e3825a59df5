from collections.abc import Iterator

import pytest
from torch import nn
from torch.utils.hooks import RemovableHandle

from search_spaces.structure.hooks import hooked


def hook_counts(layers: list[nn.Linear]) -> list[int]:
    return [len(layer._forward_hooks) for layer in layers]


def test_hooks_last_as_long_as_the_block_even_where_it_fails() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    with hooked([layer.register_forward_hook(print) for layer in layers]):
        assert hook_counts(layers) == [1, 1]
    assert hook_counts(layers) == [0, 0]
    with (
        pytest.raises(RuntimeError),
        hooked([layer.register_forward_hook(print) for layer in layers]),
    ):
        raise RuntimeError
    assert hook_counts(layers) == [0, 0]


def test_an_error_while_hooks_are_registered_leaves_none_behind() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]

    def handles() -> Iterator[RemovableHandle]:
        yield layers[0].register_forward_hook(print)
        raise KeyError

    with pytest.raises(KeyError), hooked(handles()):
        pass
    assert hook_counts(layers) == [0, 0]
