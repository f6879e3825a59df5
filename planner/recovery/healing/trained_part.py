"""Which weights of a small model are trained; their shapes and zeros stay."""

from collections.abc import Collection, Mapping
from typing import Protocol, assert_never

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from planner.settings.heal import HealSettings
from search_spaces.models.layer_stack import find_stack
from search_spaces.structure.linear import is_linear


class TrainedPart(Protocol):
    """What is trained of a model."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What the optimiser changes, in float32, by names that stay the same from run to run."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """Return the model's tensors as they are trained now, by their own names, on the CPU."""
        ...


def trained_part(
    model: PreTrainedModel, settings: HealSettings, *, dtype: torch.dtype, fixed: Collection[str]
) -> TrainedPart:
    """Choose what is trained of a model, and make all else ask for no gradients.

    Args:
        model: Changed in place; what is not trained is kept in the dtype.
        settings: Say what is trained.
        dtype: That the model computes in.
        fixed: Names of weights that must stay as they are, for integers stand for them.
    """
    model.requires_grad_(requires_grad=False)
    match settings.train:
        case "lora":
            # an extra: imported where it is asked for
            from planner.recovery.healing.low_rank import LowRankUpdates  # noqa: PLC0415

            return LowRankUpdates(model, settings.lora_rank, dtype=dtype, fixed=fixed)
        case "norms":
            names = [name for name, p in _of_layers(model).items() if p.ndim == 1]
        case "all":
            names = list(_of_layers(model))
        case _:
            assert_never(settings.train)
    return WholeWeights(model, [name for name in names if name not in fixed], dtype)


class WholeWeights:
    """Weights that are trained themselves.

    Args:
        model: That holds them.
        names: Of the parameters.
        dtype: What all others are kept in.
    """

    def __init__(self, model: PreTrainedModel, names: Collection[str], dtype: torch.dtype) -> None:
        chosen = set(names)
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if name in chosen:
                # cut layers may share norms with the model that they were cut from
                parameter.data = parameter.detach().float().clone()
                parameter.requires_grad_()
                keep_zeros(parameter)
                self.parameters[name] = parameter
            elif parameter.ndim > 1:
                parameter.data = parameter.to(dtype)

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu().clone() for name, p in self.parameters.items()}


def keep_zeros(parameter: nn.Parameter) -> None:
    """Let no step change the zeros of a matrix: that is its sparsity; vectors have none."""
    if parameter.ndim < 2:
        return
    mask = parameter.detach() != 0
    if bool(mask.all()):
        return

    def keep(changed: Tensor) -> None:
        assert changed.grad is not None
        changed.grad.mul_(mask.to(changed.device))

    parameter.register_post_accumulate_grad_hook(keep)  # type: ignore[no-untyped-call]


def _of_layers(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the parameters of a model's layers.

    Embedding, last norm and head are the dense model's, and stay as they are.
    """
    stack = find_stack(model)
    return {n: p for n, p in model.named_parameters() if n.startswith(f"{stack.path}.")}


def linear_paths(model: PreTrainedModel) -> list[str]:
    """Return the paths of the linear layers inside a model's layers."""
    stack = find_stack(model)
    return [
        path
        for path, module in model.named_modules()
        if is_linear(module) and path.startswith(f"{stack.path}.")
    ]


def stacked_names(model: PreTrainedModel) -> list[str]:
    """Return the names of tensors in a model's layers that stack a matrix for each expert."""
    return [name for name, p in _of_layers(model).items() if p.ndim == 3]
