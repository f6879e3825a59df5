"""Sparsifiers, which make matrices sparse: one file a method."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier

SparsifierName = Literal[
    "magnitude", "wanda", "moe_pruner", "gblm", "pruner_zero", "sparsegpt", "random"
]


def make_sparsifier(  # noqa: PLR0911  (one for each name)
    name: SparsifierName, *, seed: int = 0
) -> "Sparsifier":
    """Return the sparsifier of a name.

    Args:
        name: Its name.
        seed: Of the random one.
    """
    match name:
        case "magnitude":
            from search_spaces.pruned_weights.sparsifiers.magnitude_mask import Magnitude

            return Magnitude()
        case "wanda":
            from search_spaces.pruned_weights.sparsifiers.wanda_mask import Wanda

            return Wanda()
        case "moe_pruner":
            from search_spaces.pruned_weights.sparsifiers.moe_pruner import MoePruner

            return MoePruner()
        case "gblm":
            from search_spaces.pruned_weights.sparsifiers.gblm_mask import GblmPruner

            return GblmPruner()
        case "pruner_zero":
            from search_spaces.pruned_weights.sparsifiers.pruner_zero import PrunerZero

            return PrunerZero()
        case "sparsegpt":
            from search_spaces.pruned_weights.sparsifiers.sparsegpt import SparseGpt

            return SparseGpt()
        case "random":
            from search_spaces.pruned_weights.sparsifiers.random_mask import RandomOrder

            return RandomOrder(seed)
        case _:
            assert_never(name)
