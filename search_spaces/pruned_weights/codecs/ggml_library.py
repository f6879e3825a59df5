"""llama.cpp's own quantiser, from the library inside the package `xllamacpp`."""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from search_spaces.errors import MissingExtraError

_PACKAGE = "xllamacpp"
_FUNCTION = "ggml_quantize_chunk"
_ROWS_AT_ONCE = 256
"""For one thread; rows are quantised one by one, whatever others there are."""


def quantized_rows(
    weight: Tensor, kind: GGMLQuantizationType, row_bytes: int, importance: Tensor | None
) -> Tensor:
    """Return the bytes that llama.cpp makes of rows, ``(rows, row_bytes)`` in uint8.

    Args:
        weight: ``(rows, columns)`` in float32, contiguous, on the CPU.
        kind: Of the types that need no importance.
        row_bytes: Of that type.
        importance: Of the columns, ``(columns,)`` in float32; None: as without an importance
            matrix, for which it has functions of their own.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    quantize = _quantizer()
    rows, columns = weight.shape
    data = torch.empty((rows, row_bytes), dtype=torch.uint8)
    address = None if importance is None else importance.data_ptr()

    def fill(start: int) -> None:
        count = min(_ROWS_AT_ONCE, rows - start)
        source, target = weight.data_ptr(), data.data_ptr()
        written = quantize(
            int(kind), source, target, start * columns, count, columns, address
        )  # the target moves with the start by itself
        assert written == count * row_bytes, "llama.cpp has another size of this type"

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, range(0, rows, _ROWS_AT_ONCE)))
    return data


def check_library() -> None:
    """Refuse to go on without the library.

    Raises:
        MissingExtraError: If the package is not installed.
    """
    _quantizer()


@functools.cache
def _quantizer() -> Callable[..., int]:
    """Return the function of ``ggml.h``.

    Raises:
        MissingExtraError: If the package is not installed, or hides it.
    """
    spec = find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in map(Path, folders or ()):
        for path in sorted(folder.glob(f"{_PACKAGE}*.so")):
            function = getattr(ctypes.CDLL(str(path)), _FUNCTION, None)
            if function is not None:
                # type, source, target, first weight, rows, columns, importance
                count = ctypes.c_int64
                pointer = ctypes.c_void_p
                function.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]
                function.restype = ctypes.c_size_t
                return function  # type: ignore[no-any-return]
    raise MissingExtraError(_PACKAGE, "gguf", "quantising as llama.cpp does")
