"""What removing one expert alone costs in the acceptance of drafted tokens."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from evaluators.collectors.names import Key
from evaluators.quality.acceptance import acceptance
from evaluators.quality.comparison import Comparison, Teacher
from search_spaces.structure.backbone import Backbone, LayerInputs
from search_spaces.structure.expert_hooks import masked_router
from search_spaces.structure.model import ModelStructure

STATE_BYTES = 1 << 30
"""Hidden states that are held at once, of as many removals as go into them."""
_POSITIONS_AT_ONCE = 128

_Removals = Mapping[int, Sequence[int]]
"""By layer, the experts that are each removed alone."""


@torch.no_grad()
def measure_expert_removals(
    structure: ModelStructure, windows: Tensor, state_bytes: int = STATE_BYTES
) -> dict[int, dict[Key, Tensor]]:
    """Remove each expert alone, as its router does without it.

    What runs before an expert runs once for all. As many removals as their states may be held for
    go through the rest of the model together, and each layer is in memory once for all of them.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.
        state_bytes: How much may be held of hidden states.

    Returns:
        By layer the share of drafted tokens that is not accepted, ``(experts,)``; 0 for an expert
        that no token is sent to.
    """
    backbone = structure.backbone
    tokens = windows.to(backbone.model.device)
    inputs = backbone.enter(tokens)
    used = _used(structure, inputs)
    lost = {layer: torch.zeros(len(chosen)) for layer, chosen in used.items()}
    state = inputs.hidden
    room = max(1, state_bytes // (state.numel() * state.element_size()))
    at = 0
    for removals in _batches(used, room):
        state, at = _advanced(backbone, inputs, state, at, min(removals)), min(removals)
        finals = _finals(structure, inputs, state, removals)
        pairs = [(layer, expert) for layer, experts in removals.items() for expert in experts]
        for (layer, expert), value in zip(
            pairs, _rejected(backbone, inputs.final, finals), strict=True
        ):
            lost[layer][expert] = value
    return {
        component.layer: {("expert_acceptance", component.mixture.holder): lost[component.layer]}
        for component in structure.components
        if component.experts is not None
    }


def _used(structure: ModelStructure, inputs: LayerInputs) -> dict[int, Tensor]:
    """Tell by layer which experts some token is sent to, ``(experts,)``."""
    backbone, state = structure.backbone, inputs.hidden
    used = {}
    for index, own in enumerate(structure.layers):
        with backbone.resident(index) as layer:
            if own.experts is None:
                state = backbone.run_layer(layer, state, inputs.calls[index])
                continue
            experts = own.experts.mixture
            marks = used[index] = torch.zeros(experts.count, dtype=torch.bool)

            def note(_holder: object, args: tuple[Tensor, ...], marks: Tensor = marks) -> None:
                marks[args[1].flatten().cpu()] = True

            with layer.get_submodule(experts.holder).register_forward_pre_hook(note):
                state = backbone.run_layer(layer, state, inputs.calls[index])
    return used


def _batches(used: Mapping[int, Tensor], room: int) -> Iterator[dict[int, list[int]]]:
    """Part the removals, in the order of their layers, into as many as there is room for."""
    pairs = [(layer, int(e)) for layer, marks in used.items() for e in marks.nonzero()]
    for start in range(0, len(pairs), room):
        batch: dict[int, list[int]] = {}
        for layer, expert in pairs[start : start + room]:
            batch.setdefault(layer, []).append(expert)
        yield batch


def _advanced(
    backbone: Backbone, inputs: LayerInputs, state: Tensor, start: int, stop: int
) -> Tensor:
    """Send the dense model's hidden states on to a layer."""
    for index in range(start, stop):
        with backbone.resident(index) as layer:
            state = backbone.run_layer(layer, state, inputs.calls[index])
    return state


def _finals(
    structure: ModelStructure, inputs: LayerInputs, state: Tensor, removals: _Removals
) -> list[Tensor]:
    """Give the final hidden states of each removal; the dense ones enter the first such layer."""
    backbone = structure.backbone
    live: list[Tensor] = []
    for index in range(min(removals), len(structure.layers)):
        call = inputs.calls[index]
        with backbone.resident(index) as layer:
            for place, hidden in enumerate(live):
                live[place] = backbone.run_layer(layer, hidden, call)
            component = structure.layers[index].experts
            if component is not None:
                for expert in removals.get(index, ()):
                    gone = torch.arange(component.mixture.count) == expert
                    with masked_router(layer, component.mixture, gone):
                        live.append(backbone.run_layer(layer, state, call))
            if index < max(removals):
                state = backbone.run_layer(layer, state, call)
    return [backbone.leave(hidden) for hidden in live]


def _rejected(backbone: Backbone, dense: Tensor, finals: Sequence[Tensor]) -> list[float]:
    """Give for each of some final hidden states the share of tokens that is not accepted."""
    rows = [final.flatten(0, 1) for final in finals]
    reference = dense.flatten(0, 1)
    sums = [0.0] * len(rows)
    for start in range(0, len(reference), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        teacher = Teacher.of(backbone.logits(reference[part]).clone(), reference[part])
        targets = teacher.top  # of the text nothing is asked here
        for place, own in enumerate(rows):
            logits = backbone.logits(own[part]).clone()
            accepted = acceptance(Comparison.of(logits, teacher, targets, own[part]))
            sums[place] += float((1 - accepted).sum())
    return [total / len(reference) for total in sums]
