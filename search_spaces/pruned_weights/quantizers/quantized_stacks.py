"""Experts in number formats: every matrix in the stacks of a mixture by itself."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.pruned_weights.quantized import QuantizedMatrix, stacked
from search_spaces.pruned_weights.quantizers import QuantizerName
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.sparsifiers.expert_stacks import expert_statistics
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.mixture import Mixture


def stack_quantizer(name: QuantizerName) -> QuantizerName:
    """Return the quantiser of experts: of their inputs mean squares are measured, and no more."""
    return "imatrix" if name == "gptq" else name


def quantized_stacks(
    experts: Mixture,
    stacks: Mapping[str, Tensor],
    number_format: NumberFormat,
    quantizer: Quantizer,
    statistics: MatrixStatistics,
) -> dict[str, QuantizedMatrix]:
    """Put the matrices of all experts into the formats that hold them.

    Args:
        experts: The mixture.
        stacks: Its stacks by path, ``(experts, ...)`` in float32; they may hold some of the
            experts and channels only.
        number_format: That is asked for.
        quantizer: One that `stack_quantizer` names.
        statistics: Of the same experts and channels, as `stack_statistics` declares.

    Returns:
        By path, the stacks of matrices of which a format holds the rows.
    """
    found = {}
    for stack in experts.matrices:
        matrices = stack.as_matrices(stacks[stack.path])
        held = number_format.held(matrices.shape[2])
        if held == STORED:
            continue
        found[stack.path] = stacked(
            [
                quantizer.quantize(
                    matrix.contiguous(),
                    held,
                    expert_statistics(quantizer, stack, statistics, expert),
                )
                for expert, matrix in enumerate(matrices)
            ]
        )
    return found
