"""Experts in number formats: every matrix in the stacks of a mixture by itself."""

from torch import Tensor

from search_spaces.pruned_weights.quantized import QuantizedMatrix, stacked
from search_spaces.pruned_weights.quantizers import QuantizerName
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.sparsifiers.expert_stacks import expert_statistics
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.mixture import Stack


def stack_quantizer(name: QuantizerName) -> QuantizerName:
    """Return the quantiser of experts: of their inputs mean squares are measured, and no more."""
    return "imatrix" if name == "gptq" else name


def quantized_stack(
    stack: Stack,
    weight: Tensor,
    number_format: NumberFormat,
    quantizer: Quantizer,
    statistics: MatrixStatistics,
) -> QuantizedMatrix | None:
    """Put the matrices of all experts in a stack into the format that holds them.

    Args:
        stack: Of matrices.
        weight: Of some experts, perhaps with some of their channels, ``(experts, ...)`` in
            float32.
        number_format: That is asked for.
        quantizer: One that `stack_quantizer` names.
        statistics: Of the same experts and channels, as `stack_statistics` declares.

    Returns:
        Their bytes; None: none but the dense model's format holds them.
    """
    matrices = stack.as_matrices(weight)
    held = number_format.held(matrices.shape[2])
    if held == STORED:
        return None
    return stacked(
        [
            quantizer.quantize(
                matrix.contiguous(),
                held,
                expert_statistics(quantizer, stack, statistics, expert),
            )
            for expert, matrix in enumerate(matrices)
        ]
    )
