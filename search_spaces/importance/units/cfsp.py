"""A unit's share of the weights of each feature, times the size of its activation."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class CFSP:
    """A weight counts relative to those of the other units, a unit also by its activation.

    With ``r_j`` the root mean square of what column ``j`` of the output projection reads, and
    ``r_u = √ Σ_{j in u} r_j²`` that of a unit::

        r_u · ( mean_i Σ_{j in u} |W_ij| r_j / Σ_k |W_ik| r_k
                + Σ over the other projections V of  mean_i Σ_{j in u} |V_ji| / Σ_k |V_ki| )

    This is the fine part, inside of a component; how much is pruned from each component is the
    search's business. The published code divides by a column's own sum, which leaves only ``r_u``
    of the formula; here shares are those among units, as relative importance means them. The
    paper prunes MLPs alone; attentions take the same formula.

    References:
        Wang et al., 2025, "CFSP: An Efficient Structured Pruning Framework for LLMs with
        Coarse-to-Fine Activation Information".
    """

    statistics: frozenset[StatisticName] = frozenset({"input_second_moment"})
    comparable = False

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        output = component.projections[-1]
        energy = statistics["input_second_moment", output.path].to(weights[output.path])
        shares = []
        for projection in component.projections:
            size = weights[projection.path].abs()
            if projection is output:
                size = size * energy.sqrt()
            side = projection.free_axis
            total = size.sum(dim=1 - side, keepdim=True)
            # a feature that no unit reads or writes tells them apart by nothing
            share = (size / total.where(total > 0, 1.0)).mean(dim=side)
            shares.append(projection.summed(share))
        return output.summed(energy).sqrt() * sum(shares[1:], start=shares[0])
