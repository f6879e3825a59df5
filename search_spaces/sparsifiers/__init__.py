"""One file for each way to make matrices sparse, and for each way to better a sparse one."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from search_spaces.sparsifiers.protocol import Refinement, Sparsifier

SparsifierName = Literal[
    "magnitude", "wanda", "moe_pruner", "gblm", "pruner_zero", "sparsegpt", "random"
]
RefinementName = Literal["admm", "dsnot"]


def _silent(_notice: str) -> None:
    """Say nothing."""


def make_sparsifier(  # noqa: PLR0911  (one for each name)
    name: SparsifierName, *, seed: int = 0, on_notice: Callable[[str], None] = _silent
) -> "Sparsifier":
    """Give the sparsifier of a name.

    Args:
        name: Its name.
        seed: Of the random one.
        on_notice: Is told in a sentence where a method had to fall back.
    """
    match name:
        case "magnitude":
            from search_spaces.sparsifiers.magnitude import Magnitude

            return Magnitude()
        case "wanda":
            from search_spaces.sparsifiers.wanda import Wanda

            return Wanda()
        case "moe_pruner":
            from search_spaces.sparsifiers.moe_pruner import MoePruner

            return MoePruner()
        case "gblm":
            from search_spaces.sparsifiers.gblm import GblmPruner

            return GblmPruner()
        case "pruner_zero":
            from search_spaces.sparsifiers.pruner_zero import PrunerZero

            return PrunerZero()
        case "sparsegpt":
            from search_spaces.sparsifiers.sparsegpt import SparseGpt

            return SparseGpt(on_notice)
        case "random":
            from search_spaces.sparsifiers.random_order import RandomOrder

            return RandomOrder(seed)
        case _:
            assert_never(name)


def make_refinement(
    name: RefinementName, *, on_notice: Callable[[str], None] = _silent
) -> "Refinement":
    """Give the refinement of a name.

    Args:
        name: Its name.
        on_notice: Is told in a sentence where a method had to fall back.
    """
    match name:
        case "admm":
            from search_spaces.sparsifiers.admm import Admm

            return Admm(on_notice)
        case "dsnot":
            from search_spaces.sparsifiers.dsnot import DSnoT

            return DSnoT()
        case _:
            assert_never(name)
