"""Low-rank updates of a model's matrices, by PEFT, merged into them at the end."""

import logging
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from planner.recovery.healing.trained_part import linear_paths, stacked_names
from search_spaces.errors import MissingExtraError
from search_spaces.structure.linear import as_matrix, bias

try:
    import peft
    from peft.tuners.lora.layer import Linear as LoraLinear
except ModuleNotFoundError as error:
    raise MissingExtraError("peft", "heal", "`--train lora`") from error

logger = logging.getLogger(__name__)

_ADAPTER = "default"


class MaskedLoraLinear(LoraLinear):
    """An update that leaves the zeros of its matrix alone.

    References:
        Zimmer et al., 2023, PERP, arXiv 2312.15230, section 3.2 (MaskLoRA).
    """

    def get_delta_weight(self, adapter: str) -> Tensor:
        delta: Tensor = super().get_delta_weight(adapter)
        return delta * (_weight(self.get_base_layer()) != 0)

    def forward(self, x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        base = self.get_base_layer()
        weight = _weight(base)
        weight = weight + self.get_delta_weight(_ADAPTER).to(weight)
        return functional.linear(x, as_matrix(base, weight), bias(base))


class LowRankUpdates:
    """Updates B·A of the matrices of a model's layers; experts that are stacked stay as they are.

    Args:
        model: That holds the matrices; its linear layers are wrapped in place.
        rank: Of each update.
        dtype: What the model is kept in.
        fixed: Names of weights that must stay as they are.

    References:
        Hu et al., 2022, arXiv 2106.09685.
    """

    def __init__(
        self, model: PreTrainedModel, rank: int, *, dtype: torch.dtype, fixed: Collection[str]
    ) -> None:
        paths = [path for path in linear_paths(model) if f"{path}.weight" not in fixed]
        if stacked := stacked_names(model):
            logger.warning(
                "`--train lora` leaves matrices of experts that are stacked in one tensor as they "
                "are, %d tensors of this model; `--train all` trains them too",
                len(stacked),
            )
        linears = {path: model.get_submodule(path) for path in paths}
        # merging adds to the weights as they were, not as they are rounded meanwhile
        self._before = {path: _weight(linear).float().cpu() for path, linear in linears.items()}
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.to(dtype)
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules=paths,
            fan_in_fan_out=all(isinstance(linear, Conv1D) for linear in linears.values()),
        )
        if any(bool((weight == 0).any()) for weight in self._before.values()):
            config._register_custom_module({nn.Linear: MaskedLoraLinear, Conv1D: MaskedLoraLinear})
        if paths:
            peft.LoraModel(model, {_ADAPTER: config}, _ADAPTER)
        self._updates = {path: model.get_submodule(path) for path in paths}
        self.parameters: dict[str, nn.Parameter] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data = parameter.float()
                self.parameters[name] = parameter

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        merged = {}
        for path, update in self._updates.items():
            delta = update.get_delta_weight(_ADAPTER)  # type: ignore[operator]
            merged[f"{path}.weight"] = self._before[path] + delta.float().cpu()
        return merged


def _weight(linear: nn.Module) -> Tensor:
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight.detach()
