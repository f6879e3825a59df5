"""A first guess at what cuts do to the model, before any candidate is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import SettingsError
from search_spaces.importance.protocol import LayerImportance, UnitImportance
from search_spaces.importance.units.wanda import Wanda
from search_spaces.priors import AllocationName, global_magnitude, lamp
from search_spaces.priors.output_energy import expert_prior, lost_shares
from search_spaces.priors.owl import owl_shares
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.statistics import Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Floats = NDArray[np.float64]

_DAMPING = 0.01
"""Of the mean of a Gram matrix's diagonal: for the factor only, and taken off again."""


@dataclass(frozen=True, kw_only=True)
class SensitivityPrior:
    """What cuts are guessed to do; additive, and good to begin with."""

    units: tuple[Floats, ...]
    """For each component what losing each unit does, ``(units,)``."""
    block_options: tuple[Floats, ...]
    """For each component what each of its variants does, the dense one first: 0."""
    tilts: Floats | None = None
    """How much more than the common share of weights each component is to keep, ``(components,)``;
    none: that follows from the harms."""


def prior_from_energy(
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    block_options: Sequence[Sequence[BlockOptions]] | None = None,
) -> SensitivityPrior:
    """Guess by the energy that is lost to the hidden states, relative to theirs.

    Hidden states grow from layer to layer, so that the same energy does less harm later; the ratio
    can be compared across layers, and between heads, channels and weights. Units by Wanda's
    score; of a pattern, each matrix is taken to lose its share of the component's energy that the
    smallest of its terms ``|W_ij|² · E[x_j²]`` make up.

    Args:
        structure: The dense model, not permuted yet.
        statistics: Of each layer.
        block_options: For each component how it may be thinned out, the dense way first; none:
            not.
    """
    block_options = block_options or [combined_options()] * len(structure.components)
    units, by_variant = [], []
    for position, (component, weights) in enumerate(structure.matrices()):
        known, own = statistics[component.layer], block_options[position]
        if component.experts is not None:
            found = expert_prior(component, weights, known, own)
        else:
            energy = Wanda().importance(component, weights, known) / known["hidden_energy", ""]
            patterns = [options.pattern for options in own]
            moments = {path: known["input_second_moment", path] for path in weights}
            lost = sum(lost_shares(weights[p], moments[p], patterns) for p in weights)
            found = _numpy(energy), np.minimum(lost, 1.0) * float(energy.sum())
        units.append(found[0])
        by_variant.append(found[1])
    return SensitivityPrior(units=tuple(units), block_options=tuple(by_variant))


def prior_after_compensation(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    orders: Sequence[NDArray[np.int_]],
) -> SensitivityPrior:
    """Guess what is lost of a width whose output projection is fitted anew.

    With the second moments of its inputs ``G = L Lᵀ`` in sorted order, and the columns ``R`` gone,
    the best fit leaves ``‖W_R L_RR‖²`` of the energy, for ``L_RR L_RRᵀ`` is what the kept inputs
    cannot tell of the others. A dropped component is not fitted, and loses all.

    Args:
        energy: What is guessed without a fit.
        structure: The dense model, not permuted yet.
        statistics: Of each layer, with ``gram``.
        orders: For each component its units from the last to go to the first to go.

    Returns:
        The same guess with other harms of units: those of a prefix of an order add up to what its
        widths lose, and a component's to what it loses when it is dropped.
    """
    units = []
    for position, (component, weights) in enumerate(structure.matrices()):
        if component.experts is not None:  # what goes is not made up for
            units.append(energy.units[position])
            continue
        output, order = component.projections[-1], orders[position]
        known = statistics[component.layer]
        features = torch.from_numpy(output.by_unit[order].ravel())
        weight = weights[output.path].double()[:, features]
        gram = known["gram", output.path].to(weight)[features][:, features]
        lost = _lost_after_fit(weight, gram) / float(known["hidden_energy", ""])
        sensitivities = lost.reshape(component.unit_count, -1).sum(axis=1)
        # the last one to go takes with it what no fit makes up for any more
        sensitivities[0] = max(
            sensitivities[0], energy.units[position].sum() - sensitivities[1:].sum()
        )
        own = np.empty(component.unit_count)
        own[order] = sensitivities
        units.append(own)
    return replace(energy, units=tuple(units))


def _lost_after_fit(weight: Tensor, gram: Tensor) -> Floats:
    """Give what each column adds to the energy lost when it goes after all behind it."""
    damping = float(_DAMPING * gram.diagonal().mean()) + torch.finfo(gram.dtype).tiny
    damped = gram.clone()
    damped.diagonal().add_(damping)
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:  # as where inputs are not finite: nothing is known beyond the diagonal
        factor = gram.diagonal().clamp(min=0.0).sqrt().diag()
    # column j of W L holds the columns of W from j on alone, so that ‖W_R L_RR‖² adds up
    lost = (weight @ factor).square().sum(dim=0) - damping * weight.square().sum(dim=0)
    return _numpy(lost.clamp(min=0.0))


def prior_from_importance(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    ranking: UnitImportance,
) -> SensitivityPrior:
    """Take a ranking's own importances, where they compare across components.

    Units go below one threshold on the importance, as published, whatever they cost: harm is
    importance for each weight that goes.
    """
    units, sizes = [], []
    for component, weights in structure.matrices():
        if component.experts is not None:
            raise SettingsError(
                "`prior importance` compares heads and channels, and this model has experts; set "
                "`--prior energy`"
            )
        units.append(_numpy(ranking.importance(component, weights, statistics[component.layer])))
        sizes.append(sum(weight.numel() for weight in weights.values()) / component.unit_count)
    lowest = min(float(own.min()) for own in units)
    sensitivities = (size * (own - lowest) for own, size in zip(units, sizes, strict=True))
    return replace(energy, units=tuple(sensitivities))


def prior_from_layer_importance(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    ranking: LayerImportance,
    *,
    whole_layers: bool,
) -> SensitivityPrior:
    """Take the importance of whole layers, or of attentions and MLPs, for their harm."""

    def sensitivity(component: Component) -> Floats:
        attention = component.kind == "attention"
        beside = len(structure.layers[component.layer].feed_forward)
        part = "" if whole_layers else "attention" if attention else "mlp"
        whole = ranking.importance(statistics[component.layer], part)
        share = (whole / 2 if whole_layers else whole) / (1 if attention else beside)
        return np.full(component.member_count, share / component.member_count)

    return replace(energy, units=tuple(map(sensitivity, structure.components)))


def prior_from_allocation(
    energy: SensitivityPrior,
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    block_options: Sequence[Sequence[BlockOptions]],
    name: AllocationName,
) -> SensitivityPrior:
    """Share out sparsity as a published method does.

    Args:
        energy: What is guessed of units.
        structure: The dense model, not permuted yet.
        statistics: Of each layer.
        block_options: For each component how it may be thinned out, the dense way first.
        name: The method.

    Raises:
        SettingsError: Where the model has experts, which these methods do not know.
    """
    if structure.has_experts:
        raise SettingsError(
            f"`prior {name}` shares sparsity out among attentions and MLPs, and this model has "
            "experts; set `--prior energy`"
        )
    patterns = [options.pattern for options in block_options[0]]
    if name == "owl":
        by_block = [weights for _, weights in structure.matrices()]
        layers = [statistics[component.layer] for component in structure.components]
        return replace(energy, tilts=owl_shares(by_block, layers))
    harms_of = (
        lamp.pattern_sensitivities if name == "lamp" else global_magnitude.pattern_sensitivities
    )
    sensitivities = (harms_of(weights, patterns) for _, weights in structure.matrices())
    return replace(energy, block_options=tuple(sensitivities))


def _numpy(values: Tensor) -> Floats:
    found: Floats = values.to(torch.float64).cpu().numpy()
    return found
