"""What options of single components do to a candidate's KL, from one backward pass.

An option, such as a number format, changes what its component adds to the hidden states. How much
that matters is known to second order from gradients by these states, which one backward pass gives
for all components; each option then takes one run of its component, where to score it takes a run
of all that follows, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.likelihood import drawn_by_final, kl_sum
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.steps import Step
from search_spaces.space.configuration import dense_configurations
from search_spaces.structure.backbone import LayerInputs

Asked = Mapping[int, Sequence[int]]
"""Configurations of components, by their positions: dense but for one option."""
OptionSensitivities = dict[tuple[int, int], float]
"""Rise of KL in nats a token, by position and configuration."""

PASSES = 5
"""Forward passes that it costs: the dense model's, the candidate's twice, and a backward of about
two; what is asked of each component comes on top."""
_SEED = 0


@torch.no_grad()
def output_fisher(
    tree: PrefixTree,
    texts: Sequence[GradientText],
    candidate: NDArray[np.int_],
    asked: Asked,
) -> OptionSensitivities:
    """Estimate what options of single components do inside a candidate, each alone.

    With ``Δ`` what one changes of a token's hidden states after its component, which counts at
    full width, and ``s`` the gradient by them of the likelihood of tokens drawn from the
    candidate's own predictions, the estimate is the sum over tokens of ``(s·Δ)² / 2``: the mean
    of ``s sᵀ`` is their Fisher information, which is the curvature of KL. Tokens are taken to add
    up. What a head changes is measured.

    Args:
        tree: Of the model.
        texts: That they are estimated on.
        candidate: Configurations ``(components,)``.
        asked: What is asked for.

    References:
        Martens, 2020, arXiv 1412.1193 (section 9: the Fisher as the curvature of KL); NVIDIA
        ModelOpt's ``auto_quantize`` (squares of gradients times squares of changes).
    """
    generator = torch.Generator(device=tree.structure.backbone.model.device).manual_seed(_SEED)
    totals = {(position, each): 0.0 for position, found in asked.items() for each in found}
    for text in texts:
        trail = _Trail.walked(tree, candidate, tree.structure.backbone.enter(text.tokens))
        for option, estimate in trail.estimates(text.final, asked, generator):
            totals[option] += estimate
    positions = sum(text.positions for text in texts)
    return {option: total / positions for option, total in totals.items()}


@dataclass(frozen=True, kw_only=True)
class _Trail:
    """A candidate's hidden states before and after each step, on one batch of text."""

    tree: PrefixTree
    candidate: NDArray[np.int_]
    dense_choices: NDArray[np.int_]
    inputs: LayerInputs
    states: tuple[Tensor, ...]
    """``(windows, tokens, hidden)`` each, the embedding's first."""

    @classmethod
    def walked(cls, tree: PrefixTree, candidate: NDArray[np.int_], inputs: LayerInputs) -> Self:
        """Run a candidate forward."""
        (root,) = tree.roots(candidate[None], inputs)
        states = [root.hidden]
        for depth, step in enumerate(tree.steps):
            with tree.structure.backbone.resident(step.layer):
                chosen = candidate[step.start : step.stop]
                states.append(tree.run(depth, chosen, states[-1], inputs))
        return cls(
            tree=tree,
            candidate=candidate,
            dense_choices=dense_configurations(tree.structure.components),
            inputs=inputs,
            states=tuple(states),
        )

    def estimates(
        self, dense: Tensor, asked: Asked, generator: torch.Generator
    ) -> Iterator[tuple[tuple[int, int], float]]:
        """Yield position and configuration of each option, and its rise of KL, summed.

        What an embedding does that is read out with, too, comes in two parts.
        """
        yield from self._at_head(dense, asked)
        slope = self._slope(generator)
        for depth, step in reversed([*enumerate(self.tree.steps)]):
            with self.tree.structure.backbone.resident(step.layer):
                for position in range(step.start, step.stop):
                    for choice, moved in self._moved(depth, step, position, asked):
                        yield (position, choice), _rise(slope, moved)
                slope = self._before(depth, step, slope)
        embedding = self.tree.ends.embedding
        for choice in () if embedding is None else asked.get(embedding, ()):
            assert embedding is not None, "else nothing is asked of it"
            embedded = self.tree.ends.embedded(self.inputs, choice)
            yield (embedding, choice), _rise(slope, embedded - self.inputs.hidden)

    def _moved(
        self, depth: int, step: Step, position: int, asked: Asked
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the options of a component, and what each changes behind a step."""
        if not asked.get(position):
            return
        plain = self._run_with(depth, step, position, int(self.dense_choices[position]))
        for choice in asked[position]:
            yield choice, self._run_with(depth, step, position, choice) - plain

    def _run_with(self, depth: int, step: Step, position: int, choice: int) -> Tensor:
        """Return hidden states behind a step with another configuration of a component."""
        chosen = self.candidate[step.start : step.stop].copy()
        if chosen[position - step.start] == choice:
            return self.states[depth + 1]
        chosen[position - step.start] = choice
        return self.tree.run(depth, chosen, self.states[depth], self.inputs)

    def _at_head(self, dense: Tensor, asked: Asked) -> Iterator[tuple[tuple[int, int], float]]:
        """Yield what other heads do, which is measured."""
        ends, backbone = self.tree.ends, self.tree.structure.backbone
        if ends.head is None or not asked.get(ends.head):
            return
        final = backbone.leave(self.states[-1])
        before = kl_sum(backbone, backbone.logits, final, dense)
        for choice in asked[ends.head]:
            yield (
                (ends.head, choice),
                kl_sum(backbone, ends.reading(choice), final, dense) - before,
            )

    def _slope(self, generator: torch.Generator) -> Tensor:
        """Return the gradient by the last hidden states, of tokens that are drawn."""
        leaf = self.states[-1].detach().requires_grad_()
        with torch.enable_grad():
            final = self.tree.structure.backbone.leave(leaf)
        head = self.tree.ends.head_of(self.candidate)
        return _gradient(final, leaf, drawn_by_final(head, final, generator))

    def _before(self, depth: int, step: Step, slope: Tensor) -> Tensor:
        """Take a gradient from behind a step to before it."""
        leaf = self.states[depth].detach().requires_grad_()
        with torch.enable_grad():
            chosen = self.candidate[step.start : step.stop]
            after = self.tree.run(depth, chosen, leaf, self.inputs)
        return _gradient(after, leaf, slope)


def _gradient(after: Tensor, leaf: Tensor, by_after: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(after, leaf, by_after)
    return gradient


def _rise(slope: Tensor, moved: Tensor) -> float:
    """Return the rise of KL, summed over tokens, where hidden states are moved."""
    return float((slope.float() * moved.float()).sum(dim=-1).double().square().sum()) / 2
