"""Parts of models in the place of others: of modules in a copy, of parameters in themselves."""

import copy
from collections.abc import Mapping

from torch import nn


def graft(layer: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of a layer with some modules replaced and all others shared.

    Args:
        layer: The layer; it is not changed.
        replacements: New modules by their path inside the layer.
    """
    root = shallow(layer)
    copies: dict[str, nn.Module] = {"": root}
    for path, module in replacements.items():
        names = path.split(".")
        for depth in range(1, len(names)):
            prefix, parent = ".".join(names[:depth]), ".".join(names[: depth - 1])
            if prefix not in copies:
                copies[prefix] = shallow(copies[parent].get_submodule(names[depth - 1]))
                setattr(copies[parent], names[depth - 1], copies[prefix])
        setattr(copies[".".join(names[:-1])], names[-1], module)
    return root


def shallow(module: nn.Module) -> nn.Module:
    """Return a copy that shares all that a module holds, so that parts of it can be replaced."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._parameters = dict(module._parameters)
    copied._buffers = dict(module._buffers)
    return copied


def substitute_(model: nn.Module, weight: nn.Parameter, other: nn.Parameter) -> None:
    """Put a parameter in the place of another wherever a module holds it: tied ones are in two."""
    for module in model.modules():
        for name, held in module._parameters.items():
            if held is weight:
                module._parameters[name] = other
