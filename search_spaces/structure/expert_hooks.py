"""Watching a mixture of experts run: who is chosen for which token, and what each of them does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from search_spaces.errors import StructureError
from search_spaces.structure.expert_tensors import tensor_at
from search_spaces.structure.experts import Experts
from search_spaces.structure.hooks import hooked


@dataclass(frozen=True, kw_only=True)
class Routed:
    """What a router chose for a batch of tokens."""

    hidden: Tensor
    """What the experts read, ``(tokens, hidden)``."""
    logits: Tensor
    """Of the router, ``(tokens, experts)``."""
    chosen: Tensor
    """Experts of each token, ``(tokens, top_k)``."""
    weights: Tensor
    """Theirs, ``(tokens, top_k)``."""


@dataclass(frozen=True, kw_only=True)
class ExpertRun:
    """What one expert did for those tokens of the batch for which it was chosen."""

    expert: int
    tokens: Tensor
    """Positions of the tokens, ``(chosen,)``."""
    weights: Tensor
    """Routing weights, ``(chosen,)``."""
    inputs: Tensor
    """``(chosen, hidden)``"""
    channels: Tensor
    """What its last matrix reads, ``(chosen, channels)``."""
    outputs: Tensor
    """What it gives, not weighed yet, ``(chosen, hidden)``."""


@contextmanager
def watched_experts(
    layer: nn.Module,
    experts: Experts,
    on_routed: Callable[[Routed], None] = lambda _: None,
    on_expert: Callable[[ExpertRun], None] = lambda _: None,
) -> Iterator[None]:
    """Be told what a layer's experts do whenever it runs, through its own forward.

    Args:
        layer: The layer, dense and in memory, whose experts run one by one.
        experts: Its experts.
        on_routed: Told once a run, before any expert runs.
        on_expert: Told of each expert that is chosen for some token.
    """
    router, holder = layer.get_submodule(experts.router), layer.get_submodule(experts.holder)
    watch = _Watch(layer, experts, on_routed, on_expert)
    own = holder._parameters
    holder._parameters = dict(own)
    try:
        for stack in experts.stacks:
            if stack.role in ("up", "down"):
                name = stack.path.removeprefix(f"{experts.holder}.")
                del holder._parameters[name]
                holder.__dict__[name] = _WatchedStack(watch, stack.role, own[name])
        hooks = (
            router.register_forward_hook(watch.routed),
            holder.register_forward_pre_hook(watch.enter),
            holder.register_forward_hook(watch.leave, always_call=True),
        )
        with hooked(hooks):
            yield
    finally:
        for name in own.keys() - holder._parameters.keys():
            del holder.__dict__[name]
        holder._parameters = own


@dataclass
class _Watch:
    """What is known of the run that goes on."""

    layer: nn.Module
    experts: Experts
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
        """Note what a matrix of the expert whose turn it is was multiplied with."""
        if role == "up":
            self.inputs = inputs
            return
        assert self.routing is not None
        # in the order in which the experts' forward gathers them: choice by choice
        chosen = self.routing.chosen.T.eq(self.expert)
        place, tokens = chosen.nonzero(as_tuple=True)
        if not torch.equal(self.routing.hidden[tokens], self.inputs):
            raise StructureError(
                f"an expert of `{self.experts.holder}` must read its tokens in the order in which "
                "they were routed, and it does not; these experts cannot be measured"
            )
        biases = [stack.path for stack in self.experts.stacks if stack.role == "down_bias"]
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
    """Stands for a stack: says whose weights were asked for last."""

    def __init__(self, watch: _Watch, role: str, stack: nn.Parameter | None) -> None:
        assert stack is not None
        self._watch = watch
        self._role = role
        self._stack = stack

    def __getitem__(self, expert: Tensor | int) -> Tensor:
        self._watch.expert = int(expert)
        given = self._stack[self._watch.expert]
        self._watch.modes[-1].given = (given, self._role)
        return given


class _Products(TorchFunctionMode):
    """Sees products with the weights that were given last."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch
        self.given: tuple[Tensor, str] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # the first operation on them is the product; indexing is what gave them
        if self.given is not None and len(args) > 1 and args[1] is self.given[0]:
            (_, role), self.given = self.given, None
            self._watch.product(role, args[0], result)
        return result


@contextmanager
def masked_router(layer: nn.Module, experts: Experts, gone: Tensor) -> Iterator[None]:
    """Let a router's logits of some experts be minus infinity, and likewise its buffers.

    Args:
        layer: The dense layer.
        experts: Of which.
        gone: Those that it must not see, ``(experts,)``.
    """
    router = layer.get_submodule(experts.router)
    buffers = {
        name: rows
        for name, rows in router.named_buffers(recurse=False)
        if f"{experts.router}.{name}" in experts.router_rows
    }
    modes: list[_MaskedLogits] = []

    def enter(*_: object) -> None:
        modes.append(_MaskedLogits(gone))
        modes[-1].__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: object) -> None:
        modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    hooks = (
        router.register_forward_pre_hook(enter),
        router.register_forward_hook(leave, always_call=True),
    )
    for name, rows in buffers.items():
        router._buffers[name] = rows.masked_fill(gone.to(rows.device), -torch.inf)
    try:
        with hooked(hooks):
            yield
    finally:
        for name, rows in buffers.items():
            router._buffers[name] = rows


class _MaskedLogits(TorchFunctionMode):
    """Masks what a linear map to as many outputs as there are experts gives."""

    def __init__(self, gone: Tensor) -> None:
        super().__init__()
        self._gone = gone

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is functional.linear and result.shape[-1] == len(self._gone):
            return result.masked_fill(self._gone.to(result.device), -torch.inf)
        return result
