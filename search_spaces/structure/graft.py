"""Parts of models in the place of others: of modules in a copy, of parameters in themselves."""

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)

_HOOKS = frozenset(
    {
        "_forward_hooks",
        "_forward_hooks_always_called",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
    }
)


def graft(layer: AnyModule, replacements: Mapping[str, nn.Module]) -> AnyModule:
    """Return a copy of a layer with some modules replaced and all others shared.

    Args:
        layer: The layer; it is not changed.
        replacements: New modules by their path inside the layer; one may lie inside another.
    """
    root = shallow(layer)
    copies: dict[str, nn.Module] = {"": root}
    for path in sorted(replacements, key=lambda each: each.count(".")):  # the outer ones first
        names = path.split(".")
        for depth in range(1, len(names)):
            prefix, parent = ".".join(names[:depth]), ".".join(names[: depth - 1])
            if prefix not in copies:
                copies[prefix] = shallow(copies[parent].get_submodule(names[depth - 1]))
                setattr(copies[parent], names[depth - 1], copies[prefix])
        setattr(copies[".".join(names[:-1])], names[-1], replacements[path])
    return root


def shallow(module: AnyModule) -> AnyModule:
    """Return a copy that shares all that a module holds, so that parts of it can be replaced."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._parameters = dict(module._parameters)
    copied._buffers = dict(module._buffers)
    return copied


def hookable(module: AnyModule) -> AnyModule:
    """Return a copy that shares all that a module holds, and has hooks of its own.

    What hooks the module has run in the copy, too; new ones run in the copy alone, so that
    whoever runs the module meanwhile does not meet them.
    """
    copied = copy.copy(module)
    for name, hooks in vars(module).items():
        if name in _HOOKS:
            copied.__dict__[name] = type(hooks)(hooks)
    return copied


def substitute_(model: nn.Module, weight: nn.Parameter, other: nn.Parameter) -> None:
    """Put a parameter in the place of another wherever a module holds it: tied ones are in two."""
    for module in model.modules():
        for name, held in module._parameters.items():
            if held is weight:
                module._parameters[name] = other
