"""Hooks on a running mixture of experts: its routing, and the activations of each expert."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from search_spaces.errors import StructureError
from search_spaces.models.tensors import tensor_at
from search_spaces.structure.hooks import hooked
from search_spaces.structure.mixture import Mixture


@dataclass(frozen=True, kw_only=True)
class Routed:
    """Routing of a batch of tokens."""

    hidden: Tensor
    """Inputs of the experts, ``(tokens, hidden)``."""
    logits: Tensor
    """Logits of the router, ``(tokens, experts)``."""
    chosen: Tensor
    """Experts of each token, ``(tokens, top_k)``."""
    weights: Tensor
    """Routing weights of the chosen experts, ``(tokens, top_k)``."""


@dataclass(frozen=True, kw_only=True)
class ExpertRun:
    """Activations of one expert on the tokens of the batch for which it was chosen."""

    expert: int
    tokens: Tensor
    """Positions of the tokens, ``(chosen,)``."""
    weights: Tensor
    """Routing weights, ``(chosen,)``."""
    inputs: Tensor
    """``(chosen, hidden)``"""
    channels: Tensor
    """Inputs of its last matrix, ``(chosen, channels)``."""
    outputs: Tensor
    """Outputs before they are multiplied by the routing weights, ``(chosen, hidden)``."""


@contextmanager
def watched_experts(
    layer: nn.Module,
    mixture: Mixture,
    on_routed: Callable[[Routed], None] = lambda _: None,
    on_expert: Callable[[ExpertRun], None] = lambda _: None,
) -> Iterator[None]:
    """Call back with what a layer's experts do whenever its own forward runs.

    Args:
        layer: The layer, dense and in memory, whose experts run one by one.
        mixture: Its experts.
        on_routed: Called once a run, before any expert runs.
        on_expert: Called for each expert that is chosen for some token.
    """
    router, holder = layer.get_submodule(mixture.router), layer.get_submodule(mixture.holder)
    watch = _Watch(layer, mixture, on_routed, on_expert)
    parameters = holder._parameters
    holder._parameters = dict(parameters)
    try:
        for stack in mixture.matrices:
            name = stack.path.removeprefix(f"{mixture.holder}.")
            del holder._parameters[name]
            holder.__dict__[name] = _WatchedStack(watch, stack.role, parameters[name])
        hooks = (
            router.register_forward_hook(watch.routed),
            holder.register_forward_pre_hook(watch.enter),
            holder.register_forward_hook(watch.leave, always_call=True),
        )
        with hooked(hooks):
            yield
    finally:
        for name in parameters.keys() - holder._parameters.keys():
            del holder.__dict__[name]
        holder._parameters = parameters


@dataclass
class _Watch:
    """State of the current run."""

    layer: nn.Module
    mixture: Mixture
    on_routed: Callable[[Routed], None]
    on_expert: Callable[[ExpertRun], None]
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    routing: Routed | None = None
    expert: int = 0
    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    modes: list["_Products"] = field(default_factory=list)

    def routed(self, _router: nn.Module, _args: object, output: tuple[Tensor, ...]) -> None:
        self.logits = output[0]

    def enter(self, _holder: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden, chosen, weights = args
        self.routing = Routed(hidden=hidden, logits=self.logits, chosen=chosen, weights=weights)
        self.on_routed(self.routing)
        self.modes.append(_Products(self))
        self.modes[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(self, *_: object) -> None:
        self.modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def product(self, role: str, inputs: Tensor, outputs: Tensor) -> None:
        """Record a product with a matrix of the expert that runs now."""
        if role == "up":
            self.inputs = inputs
            return
        assert self.routing is not None
        # in the order in which the experts' forward gathers them: choice by choice
        chosen = self.routing.chosen.T.eq(self.expert)
        place, tokens = chosen.nonzero(as_tuple=True)
        if not torch.equal(self.routing.hidden[tokens], self.inputs):
            raise StructureError(
                f"an expert of `{self.mixture.holder}` must read its tokens in the order in which "
                "they were routed, and it does not; these experts cannot be measured"
            )
        biases = [stack.path for stack in self.mixture.stacks if stack.role == "down_bias"]
        for path in biases:
            outputs = outputs + tensor_at(self.layer, path)[self.expert]
        self.on_expert(
            ExpertRun(
                expert=self.expert,
                tokens=tokens,
                weights=self.routing.weights[tokens, place],
                inputs=self.inputs,
                channels=inputs,
                outputs=outputs,
            )
        )


class _WatchedStack:
    """Takes the place of a stack and records whose weights were indexed last."""

    def __init__(self, watch: _Watch, role: str, stack: nn.Parameter | None) -> None:
        assert stack is not None
        self._watch = watch
        self._role = role
        self._stack = stack

    def __getitem__(self, expert: Tensor | int) -> Tensor:
        self._watch.expert = int(expert)
        weight = self._stack[self._watch.expert]
        self._watch.modes[-1].indexed = (weight, self._role)
        return weight


class _Products(TorchFunctionMode):
    """Intercepts products with the weights that were indexed last."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch
        self.indexed: tuple[Tensor, str] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # the first operation on the indexed weights is their product with the tokens
        if self.indexed is not None and len(args) > 1 and args[1] is self.indexed[0]:
            (_, role), self.indexed = self.indexed, None
            self._watch.product(role, args[0], result)
        return result


@contextmanager
def masked_router(layer: nn.Module, mixture: Mixture, masked: Tensor) -> Iterator[None]:
    """Set a router's logits of some experts to minus infinity, and its buffers as well.

    Args:
        layer: The dense layer.
        mixture: Of the layer.
        masked: Whether each expert is masked, ``(experts,)``.
    """
    router = layer.get_submodule(mixture.router)
    buffers = {
        name: rows
        for name, rows in router.named_buffers(recurse=False)
        if f"{mixture.router}.{name}" in mixture.router_rows
    }
    modes: list[_MaskedLogits] = []

    def enter(*_: object) -> None:
        modes.append(_MaskedLogits(masked))
        modes[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: object) -> None:
        modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    hooks = (
        router.register_forward_pre_hook(enter),
        router.register_forward_hook(leave, always_call=True),
    )
    for name, rows in buffers.items():
        router._buffers[name] = rows.masked_fill(masked.to(rows.device), -torch.inf)
    try:
        with hooked(hooks):
            yield
    finally:
        for name, rows in buffers.items():
            router._buffers[name] = rows


class _MaskedLogits(TorchFunctionMode):
    """Masks the outputs of linear maps that have as many outputs as there are experts."""

    def __init__(self, masked: Tensor) -> None:
        super().__init__()
        self._masked = masked

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is functional.linear and result.shape[-1] == len(self._masked):
            return result.masked_fill(self._masked.to(result.device), -torch.inf)
        return result
