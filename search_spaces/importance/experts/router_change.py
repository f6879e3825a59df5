"""How much fine-tuning has increased the norm of an expert's row of the router."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.errors import ModelError
from search_spaces.importance.experts.unrouted import ROUTED, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import as_mixture


class RouterChange:
    """An expert counts by what fine-tuning added to the norm of its row of the router.

    ``‖w‖ − ‖w₀‖``: the experts that learned the task drew their tokens to them.

    Args:
        pretrained: By layer the router's rows before fine-tuning, ``(experts, hidden)``.

    References:
        Chowdhury, Wang, El Maghraoui, Wang, Chen & Carothers, 2024, "A Provably Effective Method
        for Pruning Experts in Fine-tuned Sparse Mixture-of-Experts" (the change of the router's
        l2 norm; those with the smallest are pruned first).
    """

    statistics: frozenset[StatisticName] = ROUTED

    def __init__(self, pretrained: Mapping[int, Tensor]) -> None:
        self._pretrained = pretrained

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        rows = next(weights[p] for p in as_mixture(component).router_rows if weights[p].ndim == 2)
        before = self._pretrained.get(component.layer)
        if before is None or before.shape != rows.shape:
            got = "none" if before is None else str(tuple(before.shape))
            raise ModelError(
                f"the router before fine-tuning must have the shape {tuple(rows.shape)} in "
                f"`{component.name}`, got {got}; let `--pretrained_router` name the folder of the "
                "model that this one was fine-tuned from"
            )
        change = rows.norm(dim=1) - before.to(rows).norm(dim=1)
        return unrouted_last(component, change, statistics)
