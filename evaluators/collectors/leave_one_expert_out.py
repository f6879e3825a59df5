"""The loss of accepted draft tokens from removing one expert alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor

from evaluators.collectors.names import Key
from evaluators.quality.acceptance import acceptance
from evaluators.scoring.ends import Head
from evaluators.scoring.teacher_block import TeacherBlock
from search_spaces.structure.backbone import Backbone, LayerInputs
from search_spaces.structure.expert_hooks import masked_router
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure

STATE_BYTES = 1 << 30
"""Hidden states held at once, which bounds the removals that run together."""
_POSITIONS_AT_ONCE = 128

_Removals = Mapping[int, Sequence[int]]
"""By layer, the experts that are each removed alone."""


@torch.no_grad()
def measure_expert_removals(
    structure: ModelStructure, windows: Tensor, state_bytes: int = STATE_BYTES
) -> dict[int, dict[Key, Tensor]]:
    """Remove each expert alone; its router chooses among the others.

    The layers before an expert run once for all. As many removals as their states fit in memory
    go through the rest of the model together, and each layer is in memory once for all of them.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.
        state_bytes: Bound on the hidden states that are held.

    Returns:
        By layer the share of draft tokens that is not accepted, ``(experts,)``; 0 for an expert
        that no token is routed to.
    """
    backbone = structure.backbone
    tokens = windows.to(backbone.model.device)
    inputs = backbone.enter(tokens)
    routed = _routed(structure, inputs)
    rejected = {layer: torch.zeros(len(marks)) for layer, marks in routed.items()}
    state = inputs.hidden
    room = max(1, state_bytes // (state.numel() * state.element_size()))
    at = 0
    for removals in _batches(routed, room):
        state, at = _advanced(backbone, inputs, state, at, min(removals)), min(removals)
        finals = _finals(structure, inputs, state, removals)
        pairs = [(layer, expert) for layer, experts in removals.items() for expert in experts]
        for (layer, expert), value in zip(
            pairs, _rejected(backbone, inputs.final, finals), strict=True
        ):
            rejected[layer][expert] = value
    return {
        mixture.layer: {("expert_acceptance", mixture.holder): rejected[mixture.layer]}
        for mixture in mixtures_of(structure.components)
    }


def _routed(structure: ModelStructure, inputs: LayerInputs) -> dict[int, Tensor]:
    """Return, by layer, which experts some token is routed to, ``(experts,)``."""
    backbone, state = structure.backbone, inputs.hidden
    routed = {}
    for index, layer_structure in enumerate(structure.layers):
        with backbone.resident(index) as layer, ExitStack() as hooks:
            for mixture in mixtures_of(layer_structure.components):
                marks = routed[index] = torch.zeros(mixture.member_count, dtype=torch.bool)
                holder = layer.get_submodule(mixture.holder)
                hooks.enter_context(holder.register_forward_pre_hook(partial(_note, marks)))
            state = backbone.run_layer(layer, state, inputs.calls[index])
    return routed


def _note(marks: Tensor, _holder: object, args: tuple[Tensor, ...]) -> None:
    """Mark the experts that a holder is handed."""
    marks[args[1].flatten().cpu()] = True


def _batches(routed: Mapping[int, Tensor], room: int) -> Iterator[dict[int, list[int]]]:
    """Divide the removals, in the order of their layers, into batches of at most ``room``."""
    pairs = [(layer, int(e)) for layer, marks in routed.items() for e in marks.nonzero()]
    for start in range(0, len(pairs), room):
        batch: dict[int, list[int]] = {}
        for layer, expert in pairs[start : start + room]:
            batch.setdefault(layer, []).append(expert)
        yield batch


def _advanced(
    backbone: Backbone, inputs: LayerInputs, state: Tensor, start: int, stop: int
) -> Tensor:
    """Run the dense model's hidden states up to a layer."""
    for index in range(start, stop):
        with backbone.resident(index) as layer:
            state = backbone.run_layer(layer, state, inputs.calls[index])
    return state


def _finals(
    structure: ModelStructure, inputs: LayerInputs, state: Tensor, removals: _Removals
) -> list[Tensor]:
    """Return the final hidden states of each removal; dense ones enter the first such layer."""
    backbone = structure.backbone
    live: list[Tensor] = []
    for index in range(min(removals), len(structure.layers)):
        call = inputs.calls[index]
        with backbone.resident(index) as layer:
            for place, hidden in enumerate(live):
                live[place] = backbone.run_layer(layer, hidden, call)
            for mixture in mixtures_of(structure.layers[index].components):
                for expert in removals.get(index, ()):
                    removed = torch.arange(mixture.member_count) == expert
                    with masked_router(layer, mixture, removed):
                        live.append(backbone.run_layer(layer, state, call))
            if index < max(removals):
                state = backbone.run_layer(layer, state, call)
    return [backbone.leave(hidden) for hidden in live]


def _rejected(backbone: Backbone, dense: Tensor, finals: Sequence[Tensor]) -> list[float]:
    """Return, for each of some final hidden states, the share of tokens not accepted."""
    rows = [final.flatten(0, 1) for final in finals]
    reference, head = dense.flatten(0, 1), Head.of(backbone)
    sums = np.zeros(len(rows))
    for start in range(0, len(reference), _POSITIONS_AT_ONCE):
        part = slice(start, start + _POSITIONS_AT_ONCE)
        block = TeacherBlock(head, reference[part], head.parts)
        any_token = torch.zeros_like(reference[part, 0], dtype=torch.long)
        compared = block.compare([row[part] for row in rows], any_token, head, with_gaps=True)
        sums += [float((1 - acceptance(one)).sum()) for one in compared]
    return list(sums / len(reference))
