"""Training the layers of a plan, one after the other, towards the dense model's hidden states.

Each layer of the plan, its norms included, takes some steps of Adam from the weights that it has,
on what the plan itself gives it, towards what `refit` solves for. It keeps the weights that did
best on windows of text kept apart, and so does no layer worse there than before.

References:
    Shin, Park, Han, Kwon & Yoon, 2025, arXiv 2510.14444 (rebuilding whole sub-blocks, nonlinearity
    included, on the pruned model's inputs). Different here: a closed form comes first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from planner.recovery.cut_plan import CutPlan
from planner.recovery.fitting_text import Changes, FittingText
from planner.recovery.side_by_side import FIRST_TOKENS, SideBySide, asked
from search_spaces.errors import ModelError
from search_spaces.models.fingerprint import lasting
from search_spaces.models.memory import is_out_of_memory
from search_spaces.progress import Progress
from search_spaces.space.number_format import STORED
from search_spaces.structure.backbone import LayerCall
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture

STEPS = 48
"""Of Adam in each layer."""
STEP_TOKENS = 512
"""Of text in each step."""
LEARNING_RATE = 4e-4
"""The highest; it falls to nothing along a cosine."""
_LOOKS = 4
"""At the text kept apart, in even distances; without a better one between two, training ends."""


def block(plan: CutPlan, text: FittingText, progress: Progress) -> Changes:
    """Train the layers of a plan from the first changed one on.

    One layer of either model is in memory at a time, with its gradients, and all hidden states.

    Args:
        plan: It stays as it is.
        text: To train on, and to keep the best weights by.
        progress: Told of each layer.

    Yields:
        Number of a layer, and the tensors of its cut layer that changed, by their paths in it.

    Raises:
        ModelError: If the model cannot be differentiated.
    """
    backbone = plan.prepared.sorted_model.structure.backbone
    sides = [SideBySide.of(plan, windows) for windows in (text.fitted, text.apart)]
    first, count = min(plan.changed_layers(), default=len(backbone.layers)), len(backbone.layers)
    calls = _calls(plan, text)
    for index in range(count):
        if index < first:
            for side in sides:
                side.skip(index)
        else:
            layer = plan.layer(index)
            fitted, apart = (_examples(side, index) for side in sides)
            training = _LayerTraining(
                layer=layer,
                plan=plan,
                index=index,
                call=calls[index],
                windows=_step_windows(text.fitted),
            )
            changed = training.run(fitted, apart)
            for side in sides:
                _advance(side, layer, index)
            yield index, changed
        progress.advance(index + 1, count)


@dataclass(frozen=True, kw_only=True)
class _Examples:
    """What a layer of a plan is given, and what it should give."""

    inputs: Tensor
    """``(windows, tokens, hidden)``"""
    targets: Tensor
    """Likewise."""

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, windows: Tensor) -> "_Examples":
        """Return some windows, by their numbers."""
        return _Examples(inputs=self.inputs[windows], targets=self.targets[windows])


@torch.no_grad()
def _examples(side: SideBySide, index: int) -> _Examples:
    """Return the examples of a layer, and let the dense model through its own."""
    backbone = side.plan.prepared.sorted_model.structure.backbone
    inputs, targets = [], []
    with backbone.resident(index) as dense:
        for pair in side.pairs:
            after = side.run(dense, pair.dense, pair, index)
            inputs.append(pair.student)
            targets.append(pair.student.float() + asked(pair, after))
            pair.dense = after
    return _Examples(inputs=torch.cat(inputs), targets=torch.cat(targets))


@torch.no_grad()
def _advance(side: SideBySide, layer: nn.Module, index: int) -> None:
    for pair in side.pairs:
        pair.student = side.run(layer, pair.student, pair, index)


@torch.no_grad()
def _calls(plan: CutPlan, text: FittingText) -> tuple[LayerCall, ...]:
    """Return what each layer is called with on as many windows as a step takes."""
    backbone = plan.prepared.sorted_model.structure.backbone
    tokens = text.fitted[: _step_windows(text.fitted)].to(backbone.model.device)
    return backbone.enter(tokens).calls


def _step_windows(windows: Tensor) -> int:
    return min(len(windows), max(1, STEP_TOKENS // windows.shape[1]))


@dataclass(kw_only=True)
class _LayerTraining:
    """The training of one cut layer, in place."""

    layer: nn.Module
    plan: CutPlan
    index: int
    call: LayerCall
    """For as many windows as a step takes."""
    windows: int
    """In each step."""

    def run(self, fitted: _Examples, apart: _Examples) -> dict[str, Tensor]:
        """Train the layer, and return its tensors if that helped, by their paths."""
        weights, zeros = self._trained()
        dtypes = {path: weight.dtype for path, weight in weights.items()}
        for weight in weights.values():
            weight.data = weight.data.float()
            weight.requires_grad_()
        begun = _copies(weights)
        kept = self._best(weights, zeros, fitted, apart) if weights else {}
        for path, weight in weights.items():
            weight.requires_grad = False
            weight.data = kept.get(path, begun[path]).to(dtypes[path])
        return kept

    def _best(
        self,
        weights: Mapping[str, nn.Parameter],
        zeros: Mapping[str, Tensor],
        fitted: _Examples,
        apart: _Examples,
    ) -> dict[str, Tensor]:
        """Train weights, and return those that did best on what is kept apart; none: at first."""
        scale = best = self._loss(apart)
        kept = dict[str, Tensor]()
        optimiser = torch.optim.Adam(weights.values())
        generator = torch.Generator().manual_seed(self.index)
        for step in range(1, STEPS + 1):
            rate = LEARNING_RATE * (1 + math.cos(math.pi * (step - 1) / STEPS)) / 2
            for group in optimiser.param_groups:
                group["lr"] = rate
            drawn = torch.randint(len(fitted), (self.windows,), generator=generator)
            self._step(optimiser, fitted.part(drawn), scale)
            for path, is_zero in zeros.items():
                weights[path].data[is_zero] = 0.0
            if step % max(1, STEPS // _LOOKS) == 0:
                loss = self._loss(apart)
                if not loss < best:
                    break
                best, kept = loss, _copies(weights)
        return kept

    def _trained(self) -> tuple[dict[str, nn.Parameter], dict[str, Tensor]]:
        """Return what is trained, by its paths, and where in it zeros stay zeros.

        Matrices in a number format stay as they are: steps of that format are none of Adam's.
        """
        weights = {
            path: weight
            for path, weight in lasting(self.layer).items()
            if isinstance(weight, nn.Parameter) and weight.is_floating_point()
        }
        zeros = dict[str, Tensor]()
        structure = self.plan.prepared.sorted_model.structure
        span = structure.spans[self.index]
        for position in range(span.start, span.stop):
            options = self.plan.options(position)
            for path in _matrix_paths(structure.components[position]):
                if options.format != STORED:
                    weights.pop(path, None)
                elif not options.pattern.is_dense and path in weights:
                    zeros[path] = weights[path] == 0
        return weights, zeros

    def _step(self, optimiser: torch.optim.Optimizer, examples: _Examples, scale: float) -> None:
        optimiser.zero_grad()
        try:
            with torch.enable_grad():
                loss = self._error(examples) / max(scale, _LEAST)
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                "`block` trains a model, and this one cannot be differentiated: "
                f"{str(error).partition(chr(10))[0]:.80}; recover it in closed form, by `refit`"
            ) from error
        optimiser.step()

    @torch.no_grad()
    def _loss(self, examples: _Examples) -> float:
        """Return the mean square error on all examples."""
        count = self.windows
        errors = [
            # as many windows each time, for what a layer is called with depends on their number
            float(self._error(examples.part(torch.arange(first, first + count) % len(examples))))
            for first in range(0, len(examples), count)
        ]
        return sum(errors) / len(errors)

    def _error(self, examples: _Examples) -> Tensor:
        backbone = self.plan.prepared.sorted_model.structure.backbone
        device = examples.inputs.device.type
        halves = examples.inputs.dtype
        with torch.autocast(device, halves, enabled=halves != torch.float32):
            outputs = backbone.run_layer(self.layer, examples.inputs, self.call)
        missing = (outputs.float() - examples.targets)[:, FIRST_TOKENS:]
        return missing.square().mean()


_LEAST = 1e-12
"""Of the error that a loss is relative to: a layer without any has nothing to learn."""


def _matrix_paths(component: Component) -> tuple[str, ...]:
    """Return the paths of the parameters whose pattern and format a plan chooses."""
    if isinstance(component, Mixture):
        return tuple(stack.path for stack in component.matrices)
    return tuple(f"{projection.path}.weight" for projection in component.projections)


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {path: weight.detach().clone() for path, weight in weights.items()}
