"""What of a cut layer is solved again: output projections, and the last matrices of experts."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from evaluators.scoring.steps import Step
from planner.recovery.closed_form import Sums, first_tokens_held, ridge_update
from planner.recovery.cut_plan import CutPlan
from planner.recovery.recovered_weights import Storage
from planner.recovery.side_by_side import FIRST_TOKENS
from search_spaces.models.tensors import tensor_at
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.structure.components import Component
from search_spaces.structure.expert_hooks import ExpertRun, watched_experts
from search_spaces.structure.linear import as_matrix, matrix
from search_spaces.structure.mixture import Mixture, Stack

_HELD_BYTES = 2**30
"""Bound on the inputs of a projection that are held until it is solved; where there are more, a
layer runs a second time."""
_SUMS_BYTES = 2**30
"""Bound on the sums of experts that are held at once; of more, text runs once for each part."""


class Fit(ABC):
    """Sums at what ends one component of a cut layer, which is then solved again in place.

    Args:
        component: The component.
        storage: Of what is solved.
    """

    def __init__(self, component: Component, storage: Storage) -> None:
        self.component = component
        self.output = torch.empty(0)
        """Of the last run that was watched, ``(batch, tokens, hidden)`` or flat."""
        self.factor: float | None = None
        """By which the output is multiplied before it is added to the hidden states; 0: there is
        no such constant; None: it is not known yet."""
        self._dense_output = torch.empty(0)
        self._storage = storage

    @property
    @abstractmethod
    def _ending(self) -> str:
        """Path of the module whose output the component adds."""

    @abstractmethod
    def watching(self, layer: nn.Module) -> AbstractContextManager[None]:
        """Note what a layer of the plan reads and gives while it runs."""

    @contextmanager
    def watching_dense(self, layer: nn.Module) -> Iterator[None]:
        """Note what the dense layer gives in the same place."""

        def note(_module: nn.Module, _args: object, output: Tensor) -> None:
            self._dense_output = output.float()

        with layer.get_submodule(self._ending).register_forward_hook(note):
            yield

    @property
    def difference(self) -> Tensor:
        """What the last outputs lack of the dense model's, like `output`."""
        return self._dense_output - self.output

    @abstractmethod
    def add(self, missing: Tensor, *, is_apart: bool = False) -> None:
        """Add the last run to the sums.

        Args:
            missing: From the output, ``(batch, tokens, hidden)``.
            is_apart: Whether the run is of text that nothing is fitted to.
        """

    @abstractmethod
    def solve_(self, layer: nn.Module) -> dict[str, Tensor]:
        """Change the weights of the layer, and return those that changed by their paths."""

    def moved(self, run: int) -> Tensor | None:  # noqa: ARG002  (not every fit knows)
        """Return by what solving moved the hidden states of a run that was added.

        Args:
            run: Its number among those that were added.

        Returns:
            ``(batch, tokens, hidden)``; None: it is not known, and the layer must run again.
        """
        return None

    def _updated(
        self, weight: Tensor, sums: Sums, apart: Sums, energy: float = 0.0
    ) -> tuple[Tensor, Tensor | None] | None:
        """Return a matrix ``(rows, columns)`` solved again, and its bytes, as it is stored."""
        mask = None if self._storage.is_dense else weight != 0
        update = ridge_update(sums, mask, energy=energy, apart=apart)
        if update is None:
            return None
        return self._storage.stored(weight.float() + update, sums.statistics)


class ProjectionFit(Fit):
    """The output projection of an attention, an MLP or a shared expert."""

    def __init__(self, component: Component, storage: Storage, layer: nn.Module) -> None:
        super().__init__(component, storage)
        weight = matrix(layer.get_submodule(self._ending))
        self._sums, self._apart = Sums.of(weight), Sums.of(weight)
        self._inputs = torch.empty(0)
        self._held: list[Tensor] = []
        self._held_bytes = 0
        self._change: Tensor | None = None

    @property
    def _ending(self) -> str:
        return self.component.projections[-1].path

    @contextmanager
    def watching(self, layer: nn.Module) -> Iterator[None]:
        def note(_module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            self._inputs, self.output = args[0], output.float()

        with layer.get_submodule(self._ending).register_forward_hook(note):
            yield

    def add(self, missing: Tensor, *, is_apart: bool = False) -> None:
        shape = (*missing.shape[:-1], -1)
        self._held_bytes += self._inputs.nbytes
        if self._held_bytes <= _HELD_BYTES:
            self._held.append(self._inputs.reshape(shape))
        places = torch.arange(missing.shape[-2], device=missing.device)
        is_first = places.expand(missing.shape[:-1]) < FIRST_TOKENS
        sums = self._apart if is_apart else self._sums
        sums.add(*first_tokens_held(self._inputs.reshape(shape), missing.reshape(shape), is_first))

    def solve_(self, layer: nn.Module) -> dict[str, Tensor]:
        linear = layer.get_submodule(self._ending)
        weight = matrix(linear)
        updated = self._updated(weight, self._sums, self._apart)
        if updated is None:
            self._change = torch.zeros_like(weight)
            return {}
        before, (numbers, data) = weight.clone(), updated
        weight.copy_(numbers)
        self._change = weight.float() - before.float()  # as the weights are held
        name = self.component.tensor_path(self._ending)
        return {name: as_matrix(linear, numbers), **self._storage.named(name, data)}

    def moved(self, run: int) -> Tensor | None:
        if self._change is None or not self.factor or run >= len(self._held):
            return None
        inputs = self._held[run]
        return self.factor * functional.linear(inputs, self._change.to(inputs)).float()


class ExpertFit(Fit):
    """The last matrices of some experts of a mixture, each on the tokens that are routed to it."""

    def __init__(
        self,
        component: Mixture,
        storage: Storage,
        matrices: Tensor,
        experts: Sequence[int],
    ) -> None:
        super().__init__(component, storage)
        self._mixture = component
        self._sums, self._apart = (
            {expert: Sums.of(matrices[expert]) for expert in experts} for _ in range(2)
        )
        self._runs: list[ExpertRun] = []

    @property
    def _ending(self) -> str:
        return self._mixture.holder

    @contextmanager
    def watching(self, layer: nn.Module) -> Iterator[None]:
        def note(_module: nn.Module, _args: object, output: Tensor) -> None:
            self.output = output.float()

        self._runs = []
        with (
            watched_experts(layer, self._mixture, on_expert=self._runs.append),
            layer.get_submodule(self._ending).register_forward_hook(note),
        ):
            yield

    def add(self, missing: Tensor, *, is_apart: bool = False) -> None:
        """Add the last run to the sums.

        Every expert of a token moves its output by what is missing over the sum of the token's
        routing weights, which together make up for all of it.
        """
        flat = missing.flatten(0, -2)
        length = missing.shape[-2] if missing.ndim > 2 else len(flat)
        totals = flat.new_zeros(len(flat))
        for run in self._runs:
            totals.index_add_(0, run.tokens, run.weights.float())
        by_expert = self._apart if is_apart else self._sums
        for run in self._runs:
            if run.expert not in by_expert:
                continue
            weights = run.weights.float()[:, None]
            share = weights / totals[run.tokens][:, None].clamp(min=1e-6)
            inputs, asked = weights * run.channels.float(), share * flat[run.tokens]
            is_first = run.tokens % length < FIRST_TOKENS
            by_expert[run.expert].add(*first_tokens_held(inputs, asked, is_first))

    def solve_(self, layer: nn.Module) -> dict[str, Tensor]:
        stack = self._mixture.stack("down")
        stored = tensor_at(layer, stack.path)
        matrices = stack.as_matrices(stored)
        # an expert that few tokens are routed to is held by what the others read
        energies = [sums.energy * sums.tokens for sums in self._sums.values()]
        usual = sum(energies) / max(1, sum(sums.tokens for sums in self._sums.values()))
        quantized = self._storage.quantized
        of_all = None if quantized is None else quantized.data
        for expert, sums in self._sums.items():
            updated = self._updated(matrices[expert], sums, self._apart[expert], usual)
            if updated is None:
                continue
            numbers, data = updated
            matrices[expert].copy_(numbers)
            if of_all is not None and data is not None:
                of_all[expert] = data
        changed = self._storage.named(stack.path, of_all)
        return {stack.path: _as_stood_for(stack, stored, quantized), **changed}


def fits_of(plan: CutPlan, step: Step, layer: nn.Module) -> Iterator[list[Fit]]:
    """Yield what is solved at a step of a cut layer, at once each time.

    A shared expert stays as it is beside experts, which make up for what both lack.

    Args:
        plan: The plan.
        step: Of it.
        layer: The cut layer.
    """
    components = plan.prepared.sorted_model.structure.components
    kept = [p for p in range(step.start, step.stop) if plan.configurations[p]]
    mixtures = [p for p in kept if isinstance(components[p], Mixture)]
    if not mixtures:
        fits: list[Fit] = []
        for position in kept:
            output = components[position].projections[-1].path
            storage = plan.storage(position, output)
            if storage.can_change:
                fits.append(ProjectionFit(components[position], storage, layer))
        if fits:
            yield fits
        return
    for position in mixtures:
        mixture = components[position]
        assert isinstance(mixture, Mixture)
        stack = mixture.stack("down")
        storage = plan.storage(position, stack.path)
        if not storage.can_change:
            continue
        matrices = stack.as_matrices(tensor_at(layer, stack.path))
        _, rows, columns = matrices.shape
        at_once = max(1, _SUMS_BYTES // (8 * columns * (columns + rows)))
        for first in range(0, len(matrices), at_once):
            experts = range(first, min(first + at_once, len(matrices)))
            yield [ExpertFit(mixture, storage, matrices, experts)]


def _as_stood_for(stack: Stack, stored: Tensor, quantized: QuantizedMatrix | None) -> Tensor:
    """Return a stack as it is held, or what its bytes stand for, which may be finer."""
    if quantized is None:
        return stored.clone()
    return stack.as_matrices(quantized.dequantized()).contiguous()
