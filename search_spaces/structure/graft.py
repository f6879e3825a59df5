"""Parts of models in the place of others: of modules in a copy, of parameters in themselves."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn
from transformers.utils.generic import ModelOutput

AnyModule = TypeVar("AnyModule", bound=nn.Module)
Record = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
"""Takes down how a layer is called."""

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


class _InPlaceOf(nn.Module):
    """Takes the place of a module, whose other attributes a model may ask for.

    Args:
        module: That does not run.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("_module"), name)


class Given(_InPlaceOf):
    """Takes the place of a decoder and returns what it is given.

    Args:
        decoder: The decoder.
        output: What it returns.
    """

    def __init__(self, decoder: nn.Module, output: ModelOutput) -> None:
        super().__init__(decoder)
        self._given = output

    def forward(self, *_args: object, **_kwargs: object) -> ModelOutput:
        return self._given


class Passed(_InPlaceOf):
    """Takes the place of a layer and returns its hidden states as they came.

    Args:
        layer: The layer.
        returns_alone: Whether a layer returns nothing besides hidden states.
        record: Called with all arguments, those by name in a dictionary.
    """

    def __init__(self, layer: nn.Module, *, returns_alone: bool, record: Record) -> None:
        super().__init__(layer)
        self._returns_alone = returns_alone
        self._record = record

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self._record(self._module, args, kwargs)
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if self._returns_alone else (hidden,)
