"""Sensitivity priors: what pruning is expected to do to the model, before anything is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import SettingsError
from search_spaces.importance.protocol import LayerImportance, UnitImportance
from search_spaces.linalg import DAMPING, damped_factor
from search_spaces.priors import AllocationName, global_magnitude, lamp
from search_spaces.priors.output_energy import OF_ENDS, option_sensitivities
from search_spaces.priors.owl import owl_shares
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.statistics import Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SensitivityPrior:
    """Expected sensitivities of units and block options: additive, and good to begin with."""

    units: tuple[Floats, ...]
    """For each component that of pruning each unit, ``(units,)``."""
    options: tuple[Floats, ...]
    """For each component that of each of its block options, ``(options,)``; the dense one comes
    first and has 0."""
    tilts: Floats | None = None
    """By how much more than the common share of its weights each component is to keep,
    ``(components,)``; none: that follows from the sensitivities."""
    missed: Floats | None = None
    """The share of its sensitivity that is left of each component once the one before it stands in
    for it, ``(components,)``, 1 where none can; none: there are no stand-ins."""


def prior_from_energy(
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    block_options: Sequence[Sequence[BlockOptions]] | None = None,
) -> SensitivityPrior:
    """Take the energy that the hidden states lose, relative to theirs, for sensitivity.

    Hidden states grow from layer to layer, so that the same energy matters less later; the ratio
    can be compared across layers, and between heads, channels and weights. Units by Wanda's
    score; of a sparsity pattern, each matrix is taken to lose its share of the component's energy
    that the smallest of its terms ``|W_ij|² · E[x_j²]`` make up.

    Args:
        structure: The dense model, unsorted.
        statistics: Of each layer.
        block_options: For each component those that it may have, the dense one first; none: no
            others.
    """
    block_options = block_options or [combined_options()] * len(structure.components)
    units, options = [], []
    for position, (component, weights) in enumerate(structure.matrices()):
        measured = OF_ENDS if component in structure.ends else statistics[component.layer]
        by_unit, by_option = option_sensitivities(
            component, weights, measured, block_options[position]
        )
        units.append(by_unit)
        options.append(by_option)
    return SensitivityPrior(units=tuple(units), options=tuple(options))


def prior_after_compensation(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    orders: Sequence[NDArray[np.int_]],
) -> SensitivityPrior:
    """Take the energy that is lost once the output projection is fitted anew, for sensitivity.

    With the second moments of its inputs ``G = L Lᵀ`` in sorted order, and the columns ``R``
    pruned, the best fit leaves ``‖W_R L_RR‖²`` of the energy, for ``L_RR L_RRᵀ`` is the part of
    the pruned inputs that the kept ones do not predict. A dropped component is not fitted, and
    loses all.

    Args:
        energy: The prior without compensation.
        structure: The dense model, unsorted.
        statistics: Of each layer, with ``gram``.
        orders: For each component its units, most important first.

    Returns:
        The prior with other sensitivities of units: those pruned at a width add up to what the
        width loses, and those of a component to what it loses when it is dropped.
    """
    units = []
    for position, (component, weights) in enumerate(structure.matrices()):
        if not component.projections:  # nothing is fitted anew
            units.append(energy.units[position])
            continue
        output, order = component.projections[-1], orders[position]
        layer_statistics = statistics[component.layer]
        features = torch.from_numpy(output.by_unit[order].ravel())
        weight = weights[output.path].double()[:, features]
        # in float32 first: in float64 each copy is among the largest things in memory
        gram = layer_statistics["gram", output.path][features][:, features]
        lost = _lost_after_fit(weight, gram.to(weight)) / float(
            layer_statistics["hidden_energy", ""]
        )
        in_order = lost.reshape(component.unit_count, -1).sum(axis=1)
        # without its last unit a component is dropped, for which no fit compensates
        in_order[0] = max(in_order[0], energy.units[position].sum() - in_order[1:].sum())
        sensitivities = np.empty(component.unit_count)
        sensitivities[order] = in_order
        units.append(sensitivities)
    return replace(energy, units=tuple(units))


def _lost_after_fit(weight: Tensor, gram: Tensor) -> Floats:
    """Return the energy that pruning each column adds once all behind it are pruned.

    >>> gram = torch.tensor([[1.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    >>> _lost_after_fit(torch.ones(1, 2, dtype=torch.float64), gram).round(1).tolist()
    [4.0, 1.0]
    """
    mean = float(gram.diagonal().mean())
    factor = damped_factor(gram, DAMPING, mean)
    if factor is None:  # as where inputs are not finite: nothing is known beyond the diagonal
        lower, damping = gram.diagonal().clamp(min=0.0).sqrt().diag(), DAMPING * mean
    else:
        lower, damping = factor.lower, factor.damping
    # column j of W L holds the columns of W from j on alone, so that ‖W_R L_RR‖² adds up; the
    # damping is there for the factor, and taken off again
    lost = (weight @ lower).square().sum(dim=0) - damping * weight.square().sum(dim=0)
    return _numpy(lost.clamp(min=0.0))


def prior_from_importance(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    importance: UnitImportance,
) -> SensitivityPrior:
    """Take a comparable importance for the sensitivity of units.

    Units are pruned below one threshold on the importance, as published, whatever they cost:
    sensitivity is importance for each pruned weight.

    Raises:
        SettingsError: If the model has experts.
    """
    if structure.has_experts:
        raise SettingsError(
            "`prior importance` compares heads and channels, and this model has experts; set "
            "`--prior energy`"
        )
    by_component, sizes = [], []
    for component, weights in structure.matrices():
        if component in structure.ends:  # after all others
            break
        scores = importance.importance(component, weights, statistics[component.layer])
        by_component.append(_numpy(scores))
        sizes.append(sum(weight.numel() for weight in weights.values()) / component.unit_count)
    lowest = min(float(scores.min()) for scores in by_component)
    units = (size * (scores - lowest) for scores, size in zip(by_component, sizes, strict=True))
    return replace(energy, units=(*units, *energy.units[len(by_component) :]))


def prior_from_layer_importance(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    importance: LayerImportance,
    *,
    whole_layers: bool,
) -> SensitivityPrior:
    """Take the importance of whole layers, or of attentions and MLPs, for their sensitivity.

    It is shared out evenly: over a layer's halves, an MLP's experts and shared expert, and units.
    """

    def sensitivities(component: Component) -> Floats:
        is_attention = component.mixes_tokens
        layer = structure.layers[component.layer]
        feed_forward_count = len(layer.feed_forward)
        part = "" if whole_layers else "attention" if is_attention else "mlp"
        total = importance.importance(statistics[component.layer], part)
        has_both = 0 < feed_forward_count < len(layer.components)
        half = total / 2 if whole_layers and has_both else total
        share = half / (1 if is_attention else feed_forward_count)
        return np.full(component.member_count, share / component.member_count)

    units = map(sensitivities, structure.in_layers)
    return replace(energy, units=(*units, *energy.units[len(structure.in_layers) :]))


def prior_from_allocation(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    block_options: Sequence[Sequence[BlockOptions]],
    name: AllocationName,
) -> SensitivityPrior:
    """Allocate sparsity to components as a published method does.

    Args:
        energy: The prior of units.
        structure: The dense model, unsorted.
        statistics: Of each layer.
        block_options: For each component those that it may have, the dense one first.
        name: The method.

    Raises:
        SettingsError: If the model has experts, which these methods do not know.
    """
    if structure.has_experts:
        raise SettingsError(
            f"`prior {name}` shares sparsity out among attentions and MLPs, and this model has "
            "experts; set `--prior energy`"
        )
    count = len(structure.in_layers)
    pairs = islice(structure.matrices(), count)  # without the ends, which have no sparsity
    match name:
        case "owl":
            matrices = [weights for _, weights in pairs]
            layers = [statistics[component.layer] for component in structure.in_layers]
            tilts = np.pad(owl_shares(matrices, layers), (0, len(structure.ends)))
            return replace(energy, tilts=tilts)
        case "lamp":
            sensitivities = lamp.pattern_sensitivities
        case "global_magnitude":
            sensitivities = global_magnitude.pattern_sensitivities
        case _:
            assert_never(name)
    options = (
        sensitivities(weights, [option.pattern for option in of_one])
        for (_, weights), of_one in zip(pairs, block_options, strict=False)
    )
    return replace(energy, options=(*options, *energy.options[count:]))


def _numpy(values: Tensor) -> Floats:
    array: Floats = values.to(torch.float64).cpu().numpy()
    return array
