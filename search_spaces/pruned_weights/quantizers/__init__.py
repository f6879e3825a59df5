"""Quantisers: one file a method."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.pruned_weights.quantizers.protocol import Quantizer

QuantizerName = Literal["rtn", "imatrix", "gptq"]


def make_quantizer(name: QuantizerName) -> "Quantizer":
    """Return the quantiser of a name."""
    match name:
        case "rtn":
            from search_spaces.pruned_weights.quantizers.rtn import RoundToNearest

            return RoundToNearest()
        case "imatrix":
            from search_spaces.pruned_weights.quantizers.imatrix import ImportanceMatrix

            return ImportanceMatrix()
        case "gptq":
            from search_spaces.pruned_weights.quantizers.gptq import Gptq

            return Gptq()
        case _:
            assert_never(name)
