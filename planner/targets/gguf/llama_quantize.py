"""How `llama-quantize` makes a plan's file of the stock one, where the plan changes no shape."""

import re
from pathlib import Path

from gguf import GGUFReader

from planner.targets.cut_layers import CutLayers
from planner.targets.gguf.gguf_layers import Blocks, blocks_of

TYPES_FILE = "tensor-types.txt"
_BASE = "Q8_0"
"""What the line names as the type of all matrices, each of which has a line in the file: only a
type of fewer bits lets `llama-quantize` read those lines (``llama_tensor_get_type``)."""
_LINE = """
The plan changes no shape. So llama.cpp's own tool, with `{types}`, makes {same} of the stock
GGUF file of the dense model in {dtype}:

```
llama-quantize --tensor-type-file {types} STOCK.gguf {file} {base}
```
"""


def write_types(path: Path, file: Path) -> None:
    """Write the types of a GGUF file's matrices as `llama-quantize` reads them.

    Args:
        path: What to write: for each matrix a regular expression of its name, and its type.
        file: The GGUF file.
    """
    lines = [
        f"^{re.escape(tensor.name)}$={tensor.tensor_type.name.lower()}\n"
        for tensor in GGUFReader(file).tensors
        if len(tensor.shape) > 1
    ]
    path.write_text("".join(lines), encoding="ascii", newline="\n")


def line(cut: CutLayers, file: str, dtype: str) -> str:
    """Return the line to type, with a sentence on what it makes, in Markdown.

    Args:
        cut: What was written.
        file: Name of the GGUF file.
        dtype: Of its other matrices.
    """
    same = "the same tensors"
    if cut.rounding != "rtn":
        same = (
            f"tensors of the same types and bytes, rounded to the nearest and not by "
            f"`{cut.rounding}` as here,"
        )
    return _LINE.format(types=TYPES_FILE, same=same, dtype=dtype, file=file, base=_BASE)


def makes_it_again(cut: CutLayers, blocks: Blocks) -> bool:
    """Return whether `llama-quantize` can make a plan's file of that of the dense model.

    Args:
        cut: What was written.
        blocks: The same, as it was laid out.
    """
    if not cut.rounding:
        return False
    dense = blocks_of(cut.structure, cut.structure.backbone.layers)
    shapes = [[block.shape for block in each.blocks] for each in (dense, blocks)]
    return shapes[0] == shapes[1] and dense.architecture == blocks.architecture
