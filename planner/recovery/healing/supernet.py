"""One training for all plans: updates of the dense weights, of which each plan takes its part."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from planner.recovery.cut_plan import CutPlan
from planner.recovery.healing.distillation import Distillation
from planner.recovery.healing.weight_places import Place, free, places_of_layer
from search_spaces.models.memory import available_bytes
from search_spaces.structure.backbone import Backbone

_BETWEEN = 2
"""Plans between the smallest and the largest in each step."""
_LOOKED_AT = 4
"""Plans along the front by which the best updates are chosen."""
_SPARE = 8
"""Times the bytes of a cut model that stay free of those which are kept for their next turn."""


@dataclass(frozen=True, kw_only=True)
class Extract:
    """A plan's cut model, and where each of its weights stands in the dense one."""

    student: Backbone
    places: Mapping[str, Place]
    """By the weights' names in both models."""

    @classmethod
    def of(cls, plan: CutPlan, fixed: frozenset[str] = frozenset()) -> "Extract":
        """Cut a plan, but for the places of weights that must stay as they are."""
        backbone = plan.prepared.sorted_model.structure.backbone
        places = {
            f"{path}.{name}": place
            for index, path in enumerate(backbone.layer_paths)
            for name, place in places_of_layer(plan, index).items()
        }
        student = Backbone(plan.model())
        return cls(student=student, places={n: p for n, p in places.items() if n not in fixed})

    @property
    def byte_count(self) -> int:
        """Bytes of the cut layers."""
        return sum(p.nbytes for layer in self.student.layers for p in layer.parameters())

    @contextmanager
    def updated(self, updates: Mapping[str, Tensor]) -> Iterator[dict[str, nn.Parameter]]:
        """Add updates to the weights inside a block; yield those that they were added to."""
        parameters = {
            name: self.student.model.get_parameter(name) for name in updates if name in self.places
        }
        before = {name: p.data for name, p in parameters.items()}
        for name, parameter in parameters.items():
            change = self.places[name].extract(updates[name].detach())
            parameter.data = before[name].float() + change * free(before[name])
            parameter.requires_grad_()
        try:
            yield parameters
        finally:
            for name, parameter in parameters.items():
                parameter.data, parameter.grad = before[name], None
                parameter.requires_grad_(False)  # noqa: FBT003


@dataclass(kw_only=True)
class Supernet:
    """Updates that all plans of a front share, in training.

    Each step runs the smallest plan, the largest, and two between them on the same text; their
    gradients add up, each divided by the divergence that its plan began with and the median of
    all: so all budgets count alike, but for those that are as good as dense.

    References:
        Yu & Huang, 2019, arXiv 1903.05134, section 3.1 (sandwich rule); Cai et al., 2020, arXiv
        1908.09791 (one training for many sizes).
    """

    plans: Sequence[CutPlan]
    """From the largest to the smallest, two at least."""
    divergences: Sequence[float]
    """KL of each on fresh text before training, in nats a token."""
    distillation: Distillation
    fresh: Tensor
    seed: int
    fixed: frozenset[str] = frozenset()
    """Names of weights that must stay as they are."""
    _extracts: OrderedDict[int, Extract] = field(default_factory=OrderedDict)

    @cached_property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The updates, zero at first, in the shapes of the dense weights and by their names."""
        backbone = self.plans[0].prepared.sorted_model.structure.backbone
        return {
            f"{path}.{name}": nn.Parameter(torch.zeros(p.shape, device=p.device))
            for path, layer in zip(backbone.layer_paths, backbone.layers, strict=True)
            for name, p in layer.named_parameters()
            if f"{path}.{name}" not in self.fixed
        }

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """What the divergence of each plan counts, ``(plans,)``."""
        divergences = np.array(self.divergences)
        weights: NDArray[np.float64] = 1.0 / (divergences + np.median(divergences))
        return weights

    @property
    def passes(self) -> int:
        return min(len(self.plans), 2 + _BETWEEN)

    def backward(self, step: int, tokens: Tensor) -> float:
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return sum(self._backward_of(number, tokens) for number in self._drawn(step))

    def look(self) -> NDArray[np.float64]:
        """Return the weighted KL of some plans in each fresh window, as a share of what it was."""
        numbers = np.linspace(0, len(self.plans) - 1, min(len(self.plans), _LOOKED_AT))
        total, before = np.zeros(len(self.fresh)), 0.0
        for number in map(int, numbers.round()):
            extract = self._extract(number)
            with extract.updated(self.parameters):
                kl = self.distillation.by_window(extract.student, self.fresh)
            total += self.weights[number] * kl
            before += self.weights[number] * self.divergences[number]
        return total / before

    def _drawn(self, step: int) -> list[int]:
        """Return the numbers of the plans that a step runs."""
        between = np.arange(1, len(self.plans) - 1)
        rng = np.random.default_rng([self.seed, step])
        chosen = rng.choice(between, size=self.passes - 2, replace=False)
        return [0, *chosen.tolist(), len(self.plans) - 1]

    def _backward_of(self, number: int, tokens: Tensor) -> float:
        """Add a plan's gradient to that of the updates, and return its share of the loss."""
        extract = self._extract(number)
        scale = float(self.weights[number]) / self.passes
        with extract.updated(self.parameters) as weights:
            loss = self.distillation.backward(extract.student, tokens)
            for name, weight in weights.items():
                total = self.parameters[name].grad
                if weight.grad is not None and total is not None:
                    part = scale * weight.grad * free(weight.data)
                    extract.places[name].add_(total, part)
        return scale * loss

    def _extract(self, number: int) -> Extract:
        """Return a plan's cut model, one of the last that were used if memory allows."""
        extract = self._extracts.pop(number, None)
        if extract is None:
            extract = Extract.of(self.plans[number], self.fixed)
            device = str(extract.student.model.device)
            while self._extracts and available_bytes(device) < _SPARE * extract.byte_count:
                self._extracts.popitem(last=False)
        self._extracts[number] = extract
        return extract
