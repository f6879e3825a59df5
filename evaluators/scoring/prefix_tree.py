"""Sending a population of candidates through a model as a prefix tree.

Candidates that agree up to a step share the hidden states up to there. Depth first, memory grows
with the branches on one path and not with the population; layer by layer, each layer's weights are
needed once for all candidates and all text, so that a model larger than memory can be searched.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.scoring.ends import Ends
from evaluators.scoring.steps import Step, steps_of
from search_spaces.space.configuration import Configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.backbone import LayerInputs
from search_spaces.surgery.layer_builder import LayerBuilder

Members = NDArray[np.int_]
"""Positions of some candidates in their population, ``(members,)``."""
Keep = Callable[[Members, bool], Members]
"""Given members that are come to, and whether they are about to be measured, returns those that
nobody else has taken over."""
OnState = Callable[[Configurations, Tensor], None]
"""Called with each hidden state that was computed, and the configurations up to it as they run."""


def keep_all(members: Members, _begins: bool) -> Members:  # noqa: FBT001  (as `Keep` is called)
    """Give nobody up."""
    return members


@dataclass(frozen=True)
class Branch:
    """Candidates that agree up to a step, and their hidden states after it."""

    members: Members
    depth: int
    """Steps behind it."""
    hidden: Tensor
    """``(batch, tokens, hidden)``"""


class PrefixTree:
    """Runs pruned candidates of one sorted model, each shared prefix once.

    A candidate's final hidden states are those that it would give by itself, bit for bit,
    whichever way the tree is walked.

    Args:
        sorted_model: The model.
        layer_builder: Builds layers in a configuration; None: from slices of the dense ones.
    """

    def __init__(
        self, sorted_model: SortedModel, layer_builder: LayerBuilder | None = None
    ) -> None:
        self.structure = structure = sorted_model.structure
        self._layer_builder = layer_builder or LayerBuilder(sorted_model)
        self._backbone = structure.backbone
        self.steps = steps_of(structure)
        self.ends = Ends(structure, self._layer_builder)
        """What candidates do before the first step and after the last."""
        self.component_runs = 0
        """Components executed so far, dropped ones not counted."""

    @cached_property
    def running_order(self) -> list[int]:
        """The positions of components as they run: the embedding is first."""
        first = [] if self.ends.embedding is None else [self.ends.embedding]
        return [*first, *(i for i in range(len(self.structure.components)) if i not in first)]

    @cached_property
    def running_steps(self) -> tuple[Step, ...]:
        """The steps with positions in the running order."""
        shift = 0 if self.ends.embedding is None else 1
        return tuple(
            replace(step, start=step.start + shift, stop=step.stop + shift) for step in self.steps
        )

    def roots(
        self,
        configurations: Configurations,
        inputs: LayerInputs,
        members: Members | None = None,
    ) -> list[Branch]:
        """Return the branches that candidates start from: those that embed alike are in one.

        Args:
            configurations: ``(candidates, components)``
            inputs: What enters the stack of the dense model for one batch of tokens.
            members: Which candidates; None: all.
        """
        members = np.arange(len(configurations)) if members is None else members
        choices = self.ends.choices(self.ends.embedding, configurations)[members]
        return [
            Branch(members[choices == choice], 0, self.ends.embedded(inputs, int(choice)))
            for choice in np.unique(choices)
        ]

    def walk(
        self,
        configurations: Configurations,
        inputs: LayerInputs,
        starts: Sequence[Branch] | None = None,
        on_state: OnState | None = None,
        keep: Keep = keep_all,
    ) -> Iterator[tuple[int, Tensor]]:
        """Return the final hidden states of each candidate as they come, depth first.

        Args:
            configurations: ``(candidates, components)``
            inputs: What enters the stack for one batch of tokens.
            starts: Branches to start from, each candidate in one; None: the roots.
            on_state: Called with each hidden state that is computed.
            keep: Says which candidates are not given up, at each branch.

        Returns:
            Position of each candidate, and hidden states ``(batch, tokens, hidden)`` after the
            final norm.
        """
        grown = self.grow(configurations, inputs, starts, on_state=on_state, keep=keep)
        return chain.from_iterable(map(self._leave, grown))

    def grow(
        self,
        configurations: Configurations,
        inputs: LayerInputs,
        starts: Sequence[Branch] | None = None,
        *,
        depth: int | None = None,
        on_state: OnState | None = None,
        keep: Keep = keep_all,
    ) -> Iterator[Branch]:
        """Yield the branches of a depth, depth first, each of candidates that agree up to there.

        Args:
            configurations: ``(candidates, components)``
            inputs: What enters the stack for one batch of tokens.
            starts: As `walk` takes them, none of them deeper.
            depth: Steps behind the branches; None: all.
            on_state: Called with each hidden state that is computed.
            keep: As `walk` takes it.
        """
        depth = len(self.steps) if depth is None else depth
        waiting = (self.roots(configurations, inputs) if starts is None else list(starts))[::-1]
        while waiting:
            # popped before it runs further, so that no state outlives its use
            branch = waiting.pop()
            is_done = branch.depth == depth
            branch = replace(branch, members=keep(branch.members, is_done))
            if not len(branch.members):
                continue
            if is_done:
                yield branch
                continue
            choices = self._choices(configurations, branch)
            choice, members = choices[0]
            if len(choices) > 1:
                rest = np.concatenate([below for _, below in choices[1:]])
                waiting.append(Branch(rest, branch.depth, branch.hidden))
            waiting.append(self._grown(configurations, branch, choice, members, inputs, on_state))

    def walk_by_layer(
        self,
        configurations: Configurations,
        batches: Sequence[LayerInputs],
        starts: Sequence[Sequence[Branch]] | None = None,
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the final hidden states of each candidate on each batch, layer by layer.

        Each layer is in memory once for all of them; the hidden states of all are held at once.

        Args:
            configurations: ``(candidates, components)``
            batches: What enters the stack for each batch of tokens.
            starts: For each batch, as `walk` takes them.

        Yields:
            The batch, the position of the candidate, and hidden states as `walk` yields them.
        """
        alive = [
            self.roots(configurations, inputs) if starts is None else list(starts[index])
            for index, inputs in enumerate(batches)
        ]
        for layer in range(len(self.structure.layers)):
            steps = [depth for depth, step in enumerate(self.steps) if step.layer == layer]
            with self._backbone.resident(layer):
                for depth in steps:
                    alive = [
                        self._level(configurations, branches, depth, inputs)
                        for branches, inputs in zip(alive, batches, strict=True)
                    ]
        for index, branches in enumerate(alive):
            while branches:
                for member, final in self._leave(branches.pop()):
                    yield index, member, final

    def _level(
        self,
        configurations: Configurations,
        branches: list[Branch],
        depth: int,
        inputs: LayerInputs,
    ) -> list[Branch]:
        """Run one step of all branches that have come to it."""
        grown = []
        while branches:
            branch = branches.pop()
            if branch.depth > depth:  # it starts further up
                grown.append(branch)
                continue
            grown += [
                self._grown(configurations, branch, choice, members, inputs, None)
                for choice, members in self._choices(configurations, branch)
            ]
        return grown[::-1]

    def _choices(
        self, configurations: Configurations, branch: Branch
    ) -> list[tuple[Configurations, Members]]:
        """Partition the members of a branch by their next choice."""
        step = self.steps[branch.depth]
        return _partition(branch.members, configurations[branch.members, step.start : step.stop])

    def _grown(
        self,
        configurations: Configurations,
        branch: Branch,
        choice: Configurations,
        members: Members,
        inputs: LayerInputs,
        on_state: OnState | None,
    ) -> Branch:
        hidden = self.run(branch.depth, choice, branch.hidden, inputs)
        if on_state:
            as_run = configurations[members[0], self.running_order]
            on_state(as_run[: self.running_steps[branch.depth].stop], hidden)
        return Branch(members, branch.depth + 1, hidden)

    def _leave(self, branch: Branch) -> list[tuple[int, Tensor]]:
        final = self._backbone.leave(branch.hidden)
        return [(int(member), final) for member in branch.members]

    def run(
        self, depth: int, choice: Configurations, hidden: Tensor, inputs: LayerInputs
    ) -> Tensor:
        """Run hidden states ``(batch, tokens, hidden)`` through one step.

        Args:
            depth: Of the step.
            choice: Configurations of its components.
            hidden: What enters it.
            inputs: Of the batch.
        """
        step = self.steps[depth]
        self.component_runs += int(np.count_nonzero(choice))
        if self.structure.layers[step.layer].vanishes and not choice.any():
            return hidden
        return self._backbone.run_layer(
            self._narrow(step, choice), hidden, inputs.calls[step.layer]
        )

    def _narrow(self, step: Step, choice: Configurations) -> nn.Module:
        """Return the layer with the step's components as chosen, and its others dropped."""
        span = self.structure.spans[step.layer]
        layer_choice = np.zeros(span.stop - span.start, dtype=np.int_)
        layer_choice[step.start - span.start : step.stop - span.start] = choice
        return self._layer_builder.layer(step.layer, layer_choice)


def _partition(members: Members, choices: Configurations) -> list[tuple[Configurations, Members]]:
    """Group members by their choices ``(members, components)``, in ascending order of these.

    Example:
        >>> _partition(np.array([4, 5, 7]), np.array([[2], [0], [2]]))
        [(array([0]), array([5])), (array([2]), array([4, 7]))]
    """
    return [
        (choice, members[(choices == choice).all(axis=1)]) for choice in np.unique(choices, axis=0)
    ]
