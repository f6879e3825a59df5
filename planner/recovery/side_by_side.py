"""The dense model and a plan of it on the same text, layer by layer, both held at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.steps import Step
from planner.recovery.cut_plan import CutPlan
from search_spaces.structure.backbone import LayerCall
from search_spaces.structure.components import Component
from search_spaces.surgery.slice_and_cut import narrowed

BATCH_TOKENS = 4096
FIRST_TOKENS = 4
"""Of each window, which nothing is fitted to: their activations are hundreds of times those of
others, and would decide alone (Sun et al., 2024, "Massive Activations in Large Language
Models")."""


@dataclass
class Pair:
    """One batch of text in both models."""

    dense: Tensor
    """Hidden states of the dense model, ``(windows, tokens, hidden)``."""
    student: Tensor
    """Those of the plan."""
    calls: tuple[LayerCall, ...]
    is_apart: bool = False
    """Whether nothing is fitted to it."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Hidden states of the dense model and of a plan, which come to the layers one by one.

    What a layer is called with is taken from one dense pass without a cache: handed that of a
    pass, it would see its own tokens twice.
    """

    plan: CutPlan
    pairs: list[Pair]
    steps: tuple[Step, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, plan: CutPlan, windows: Tensor, *, is_apart: bool = False) -> Self:
        """Enter both models with token ids ``(windows, tokens)``.

        Args:
            plan: The plan.
            windows: The text.
            is_apart: Whether nothing is fitted to it.
        """
        sorted_model = plan.prepared.sorted_model
        backbone = sorted_model.structure.backbone
        calls: dict[int, tuple[LayerCall, ...]] = {}
        pairs = []
        batches = -(-windows.numel() // BATCH_TOKENS)
        at_once = -(-len(windows) // batches)  # all alike, where that is possible
        for tokens in torch.split(windows.to(backbone.model.device), at_once):
            if len(tokens) not in calls:  # they depend on the batch's shape alone
                calls[len(tokens)] = backbone.enter(tokens).calls
            dense, student = backbone.embed(tokens), plan.ends.embed(tokens)
            pairs.append(Pair(dense, student, calls[len(tokens)], is_apart))
        return cls(plan=plan, pairs=pairs, steps=PrefixTree(sorted_model).steps)

    @torch.no_grad()
    def skip(self, index: int) -> None:
        """Let both through a layer that is the same in both, where no other was changed before."""
        backbone = self.plan.prepared.sorted_model.structure.backbone
        with backbone.resident(index) as layer:
            for pair in self.pairs:
                are_equal = torch.equal(pair.dense, pair.student)
                pair.dense = backbone.run_layer(layer, pair.dense, pair.calls[index])
                pair.student = (
                    pair.dense
                    if are_equal
                    else backbone.run_layer(layer, pair.student, pair.calls[index])
                )

    def steps_of(self, index: int) -> Iterator[Step]:
        """Yield what runs at once in a layer: its attention and its MLP, where they part."""
        yield from (step for step in self.steps if step.layer == index)

    def run(self, layer: nn.Module, hidden: Tensor, pair: Pair, index: int) -> Tensor:
        """Run hidden states through a layer in the place of one of a number."""
        backbone = self.plan.prepared.sorted_model.structure.backbone
        return backbone.run_layer(layer, hidden, pair.calls[index])

    def components(self, step: Step) -> tuple[Component, ...]:
        """Return what runs at a step."""
        return self.plan.prepared.sorted_model.structure.components[step.start : step.stop]

    def alone(self, layer: nn.Module, step: Step) -> nn.Module:
        """Return a layer with the components of a step and without its others."""
        structure = self.plan.prepared.sorted_model.structure
        span = structure.spans[step.layer]
        others = [*range(span.start, step.start), *range(step.stop, span.stop)]
        return narrowed(layer, [(structure.components[position], 0) for position in others])


def asked(pair: Pair, dense_after: Tensor) -> Tensor:
    """Return what the student should add to its hidden states at a step, in float32.

    With the error that its hidden states carry already, its aim is what the dense model comes to.

    Args:
        pair: Before the step.
        dense_after: Hidden states of the dense model after it.
    """
    return dense_after.float() - pair.student.float()
