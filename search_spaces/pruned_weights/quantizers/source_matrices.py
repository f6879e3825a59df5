"""The bytes of matrices that came from a quantised file, in the order of a model's rows."""

import torch
from torch import Tensor

from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.gguf_source import GgufSource
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.number_format import STORED, NumberFormat, file_format


class SourceMatrices:
    """Finds the bytes of a model's matrices in the GGUF file that it was read from.

    Files have rows in another order than models, as for rotary positions: rows are told by what
    they stand for.

    Args:
        source: The file; None: the model came from none, or from one that is not quantised.
        dtype: In which the model's weights are held.
    """

    def __init__(self, source: GgufSource | None, dtype: torch.dtype) -> None:
        self._source = source
        self._dtype = dtype

    def format_of(self, name: str) -> NumberFormat:
        """Return the format in which a matrix came, by its name in the model."""
        if self._source is None:
            return STORED
        return file_format(self._source.types.get(name, ""))

    def matrix(self, name: str, weight: Tensor, member: int | None = None) -> QuantizedMatrix:
        """Return the bytes of a matrix, or of some of its rows.

        Args:
            name: Of the matrix in the model, or of a stack of matrices.
            weight: Its rows ``(rows, columns)``, columns in the unsorted model's order.
            member: Position in the unsorted model's stack; None: it is no stack.

        Raises:
            ModelError: If the file does not hold these rows, as when it was replaced.
        """
        assert self._source is not None, "nothing came from a file"
        data = torch.from_numpy(self._source.rows(name, member))
        stored = QuantizedMatrix(self.format_of(name), data)
        # as the model was unpacked, and cast
        numbers = stored.dequantized().bfloat16().to(self._dtype).float()
        order = _positions(weight.float().cpu(), numbers)
        if order is None:
            raise ModelError(
                "a model from a GGUF file must hold what the file does, and "
                f"{quoted(name, 60)} of {quoted(str(self._source.path), 60)} differs; load the "
                "model again from that file"
            )
        return stored.rows(order)


def _positions(rows: Tensor, among: Tensor) -> Tensor | None:
    """Return where each of some rows is among others, ``(rows,)``; None: some are not there."""
    if torch.equal(rows, among):
        return torch.arange(len(rows))
    if rows.shape[1] != among.shape[1]:
        return None
    places: dict[bytes, list[int]] = {}
    for place, key in reversed([*enumerate(_keys(among))]):
        places.setdefault(key, []).append(place)
    found = []
    for key in _keys(rows):
        equal = places.get(key)
        if not equal:
            return None
        found.append(equal.pop() if len(equal) > 1 else equal[0])
    return torch.tensor(found)


def _keys(rows: Tensor) -> list[bytes]:
    return [row.tobytes() for row in rows.contiguous().numpy()]


NO_SOURCES = SourceMatrices(None, torch.float32)
"""Of a model that came from no quantised file."""
