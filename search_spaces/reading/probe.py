"""Probing one layer: running it and recording its linear layers and its attention core."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from search_spaces.errors import StructureError
from search_spaces.structure.backbone import Backbone, LayerCall
from search_spaces.structure.hooks import hooked
from search_spaces.structure.linear import is_linear

_RECORDED = "watched"
"""Name of the attention function that replaces a model's own while it is recorded."""

Substitute = Callable[[str, Tensor], Tensor]
"""Replaces a linear layer's output, given the layer's path and the output."""


@dataclass
class LayerRun:
    """Record of one run of a layer."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    """Input of each linear layer, ``(..., columns)``, in the order in which they ran."""
    outputs: dict[str, Tensor] = field(default_factory=dict)
    """Output of each linear layer, ``(..., rows)``."""
    cores: list["CoreRun"] = field(default_factory=list)
    """Calls of the attention core."""
    result: Tensor = field(default_factory=lambda: torch.empty(0))
    """The layer's output, ``(batch, tokens, hidden)``."""


@dataclass(frozen=True)
class CoreRun:
    """One call of the attention core: scores, softmax and weighted values."""

    module: nn.Module
    """The module that called it."""
    linears_before: frozenset[str]
    """Paths of the linear layers that had run before."""
    query_heads: int
    groups: int
    key_dim: int
    value_dim: int
    output: Tensor
    """Concatenated heads, ``(batch, tokens, query heads × value_dim)``."""


class LayerProbe:
    """One layer of a model with its arguments, ready to be run and recorded.

    Args:
        backbone: The model that the layer is part of.
        index: Of the layer.
        call: Its arguments besides the hidden states, for ``hidden``.
        hidden: Hidden states ``(batch, tokens, hidden)`` of ordinary size.
        layer: The layer, or a copy with other weights.
    """

    def __init__(
        self, backbone: Backbone, index: int, call: LayerCall, hidden: Tensor, layer: nn.Module
    ) -> None:
        self.index = index
        self.layer = layer
        self.path = backbone.layer_paths[index]
        self.linears = {path: m for path, m in self.layer.named_modules() if is_linear(m)}
        self.hidden = hidden
        self._backbone = backbone
        self._call = call

    def run(
        self,
        *,
        layer: nn.Module | None = None,
        hidden: Tensor | None = None,
        substitute: Substitute = lambda _, output: output,
        leaf_core: bool = False,
    ) -> LayerRun:
        """Run the layer, or a changed copy of it, and return a record of the run.

        Args:
            layer: The copy; None: the layer itself.
            hidden: Its input; None: its input in the dense model.
            substitute: Replaces a linear layer's output.
            leaf_core: Cut the graph at the attention core's output, which becomes a leaf.
        """
        run = LayerRun()
        layer = self.layer if layer is None else layer
        hidden = self.hidden if hidden is None else hidden

        def recorder(path: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
            def hook(_module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
                if not isinstance(output, Tensor):  # a router may be linear, and returns more
                    return output
                run.inputs[path] = args[0]
                run.outputs[path] = substitute(path, output)
                return run.outputs[path]

            return hook

        linears = {path: m for path, m in layer.named_modules() if is_linear(m)}
        hooks = [module.register_forward_hook(recorder(path)) for path, module in linears.items()]
        with (
            hooked(hooks),
            torch.enable_grad(),
            _recorded_core(self._backbone.model, run, leaf_core=leaf_core),
        ):
            run.result = self._backbone.run_layer(layer, hidden, self._call)
        return run

    def arguments(self, path: str, layer: nn.Module | None = None) -> tuple[Any, ...]:
        """Return the arguments that one module of the layer, or of a copy, is called with.

        Raises:
            StructureError: If the module does not run.
        """
        calls: list[tuple[Any, ...]] = []

        def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append((*args, *kwargs.values()))

        module = (self.layer if layer is None else layer).get_submodule(path)
        with module.register_forward_pre_hook(record, with_kwargs=True):
            self.run(layer=layer)
        if not calls:
            raise StructureError(
                f"each part of a layer must run, and `{self.path}.{path}` does not; this layer "
                "cannot be read"
            )
        return calls[0]

    def returns(self, path: str) -> int:
        """Return how many values one module of the layer returns, 1 for a bare tensor."""
        counts: list[int] = []

        def count(_module: nn.Module, _args: object, output: object) -> None:
            counts.append(len(output) if isinstance(output, tuple) else 1)

        with self.layer.get_submodule(path).register_forward_hook(count):
            self.run()
        return counts[0]


def rounding(values: Tensor) -> float:
    """Return how far values may differ, in units of their spread, that are computed alike."""
    return 1e-3 if values.dtype == torch.float32 else 0.1


@contextmanager
def _recorded_core(model: PreTrainedModel, run: LayerRun, *, leaf_core: bool) -> Iterator[None]:
    """Replace the attention core by one that calls the model's own and records the call."""
    config = model.config.get_text_config()
    name = config._attn_implementation

    def core(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        # the eager function is not registered but defined in the module of the class
        eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        core_function = ALL_ATTENTION_FUNCTIONS.get(name, eager)
        output, weights = core_function(module, query, key, value, *args, **kwargs)
        flat = output.flatten(-2)  # (batch, tokens, query heads × value_dim)
        if leaf_core:
            flat = flat.detach().requires_grad_()
        run.cores.append(
            CoreRun(
                module=module,
                linears_before=frozenset(run.inputs),
                query_heads=query.shape[1],
                groups=key.shape[1],
                key_dim=key.shape[-1],
                value_dim=value.shape[-1],
                output=flat,
            )
        )
        return flat.view(output.shape), weights

    ALL_ATTENTION_FUNCTIONS[_RECORDED] = core
    config._attn_implementation_internal = _RECORDED
    try:
        yield
    finally:
        config._attn_implementation_internal = name
        del ALL_ATTENTION_FUNCTIONS[_RECORDED]  # type: ignore[no-untyped-call]
