"""Rewriting a matrix: zeros in it, and its number format."""

from dataclasses import dataclass

from torch import Tensor

from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.refinements.protocol import Refinement
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """What makes matrices sparse, and what puts them into number formats."""

    sparsifier: Sparsifier | None = None
    """None: every pattern is dense."""
    refinement: Refinement | None = None
    """Improves sparse matrices; None: they stay as they are."""
    quantizer: Quantizer | None = None
    """None: no options have a number format."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `rewritten` is called."""
        methods = (self.sparsifier, self.refinement, self.quantizer)
        return frozenset[StatisticName]().union(*(m.statistics for m in methods if m is not None))

    def rewritten(
        self, linear: LinearWeights, options: BlockOptions, statistics: MatrixStatistics
    ) -> LinearWeights:
        """Return a projection with the zeros and in the number format of its component.

        Args:
            linear: In float32.
            options: Whose pattern fits the matrix.
            statistics: Of the matrix.

        Raises:
            DataError: If the statistics are of far too few tokens, or not finite.
            MissingExtraError: If a format takes a package that is not installed.
        """
        before_zeros = None
        if not options.pattern.is_dense:
            before_zeros = linear.weight
            sparse = self._sparse(before_zeros, options.pattern, statistics)
            linear = LinearWeights(sparse, linear.bias)
        return self._formatted(linear, options.format, statistics, before_zeros)

    def _sparse(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        assert self.sparsifier is not None, f"no sparsifier for the pattern {pattern}"
        sparse = self.sparsifier.sparsified(weight, pattern, statistics)
        if self.refinement is not None:
            sparse = self.refinement.refined(sparse, weight, pattern, statistics)
        return sparse

    def _formatted(
        self,
        linear: LinearWeights,
        number_format: NumberFormat,
        statistics: MatrixStatistics,
        before_zeros: Tensor | None,
    ) -> LinearWeights:
        """Return a projection in the format that holds it, and what its bytes stand for."""
        held = number_format.held(linear.weight.shape[1])
        if held == STORED:
            return linear
        assert self.quantizer is not None, f"no quantiser for the format {number_format}"
        quantized = self.quantizer.quantize(linear.weight, held, statistics, before_zeros)
        return LinearWeights(quantized.dequantized(), linear.bias, quantized)


NO_REWRITING = Rewriting()
"""Where all options are dense and in the format of the dense model."""
