"""Copies of modules that share all but what is put into them."""

import torch
from torch import nn

from search_spaces.structure.graft import graft, hookable


def tree() -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))


def test_grafting_replaces_deep_modules_and_shares_the_rest() -> None:
    whole, first, second = tree(), nn.Identity(), nn.Identity()
    grafted = graft(whole, {"0.0": first, "0.1": second})
    assert grafted.get_submodule("0.0") is first
    assert grafted.get_submodule("0.1") is second
    assert grafted.get_submodule("1") is whole[1]
    assert isinstance(whole.get_submodule("0.0"), nn.Linear)


def test_a_module_may_be_grafted_into_one_that_is_grafted() -> None:
    inner, outer = nn.Identity(), nn.Sequential(nn.ReLU(), nn.Tanh())
    for replacements in ({"0": outer, "0.1": inner}, {"0.1": inner, "0": outer}):
        grafted = graft(tree(), replacements)
        assert grafted.get_submodule("0.0") is outer[0]
        assert grafted.get_submodule("0.1") is inner
        assert isinstance(outer[1], nn.Tanh)


def test_a_copy_has_hooks_of_its_own_and_those_that_were_there() -> None:
    linear, ran = nn.Linear(2, 2), list[str]()
    linear.register_forward_hook(lambda *_: ran.append("before"))
    copied = hookable(linear)
    copied.register_forward_pre_hook(lambda *_: ran.append("own"))
    inputs = torch.ones(1, 2)
    assert torch.equal(linear(inputs), copied(inputs))
    assert ran == ["before", "own", "before"]
    assert copied.weight is linear.weight
