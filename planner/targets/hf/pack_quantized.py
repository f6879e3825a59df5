"""Matrices of small integers as compressed-tensors packs them, for vLLM and transformers."""

from collections import defaultdict
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from planner.targets.cut_layers import CutLayers
from search_spaces.errors import MissingExtraError
from search_spaces.pruned_weights.codecs.integer_groups import packed_and_scales
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import INTEGERS, STORED, NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

_FORMAT = "pack-quantized"
_PACKAGE = "compressed_tensors"
_WEIGHT = ".weight"


def packs(structure: ModelStructure, component: Component, number_format: NumberFormat) -> bool:
    """Return whether the matrices of a component are packed so in a number format.

    Those of linear layers are; stacks of experts, an embedding and a head are read as they are.
    """
    if number_format not in INTEGERS or component in structure.ends:
        return False
    owner = structure.owner(component)
    return all(isinstance(owner.get_submodule(path), nn.Linear) for path in component.paths)


def stock_integers(structure: ModelStructure) -> tuple[NumberFormat, ...]:
    """Return the number formats that are read packed where no code of ours is.

    Beside packed layers classes of transformers and vLLM take experts to be packed, too.
    """
    return () if structure.has_experts else INTEGERS


def unpacked(structure: ModelStructure, component: Component, options: BlockOptions) -> str:
    """Return why a component is not packed in the number format of its options; empty: it is."""
    if options.format == STORED or packs(structure, component, options.format):
        return ""
    return f"no folder of packed integers holds {component.kind} in {options.format}"


def packed_matrices(cut: CutLayers) -> dict[str, QuantizedMatrix]:
    """Return the bytes that are packed so of a cut model, by paths in the dense one."""
    structure = cut.structure
    paths = {
        structure.tensor_name(component, path)
        for component in structure.in_layers
        for path in component.paths
        if any(packs(structure, component, each) for each in INTEGERS)
    }
    return {
        path: matrix
        for path, matrix in cut.in_formats.items()
        if path in paths and matrix.format in INTEGERS
    }


def check_package() -> None:
    """Refuse to go on without the package with which such a folder is loaded.

    Raises:
        MissingExtraError: If it is not installed.
    """
    if find_spec(_PACKAGE) is None:
        raise MissingExtraError("compressed-tensors", "packed", "a model of packed integers")


def packed_tensors(
    tensors: Mapping[str, Tensor], matrices: Mapping[str, QuantizedMatrix]
) -> dict[str, Tensor]:
    """Return tensors as a file holds them where some are packed.

    Args:
        tensors: By name.
        matrices: The bytes of some of them.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        matrix = matrices.get(name)
        if matrix is None:
            packed[name] = tensor
            continue
        integers, scales = packed_and_scales(matrix.data, matrix.format)
        packed[f"{name}_packed"] = integers
        packed[f"{name}_scale"] = scales
        packed[f"{name}_shape"] = torch.tensor(matrix.shape)
    return packed


def quantization_config(
    tensors: Mapping[str, Tensor], matrices: Mapping[str, QuantizedMatrix]
) -> dict[str, Any]:
    """Return what a config says of packed matrices: which linear layers are in which format.

    Args:
        tensors: Of the model, by name.
        matrices: The bytes of some of them.
    """
    check_package()
    from compressed_tensors.quantization import (  # noqa: PLC0415  (of an extra)
        QuantizationConfig,
    )

    modules: dict[NumberFormat, list[str]] = defaultdict(list)
    for name, matrix in matrices.items():
        modules[matrix.format].append(name.removesuffix(_WEIGHT))
    config: dict[str, Any] = QuantizationConfig(
        config_groups={
            number_format.name: {
                "targets": names,
                "weights": {
                    "num_bits": number_format.weight_bits,
                    "type": "int",
                    "symmetric": True,
                    "strategy": "group",
                    "group_size": number_format.block,
                },
                "format": _FORMAT,
            }
            for number_format, names in modules.items()
        },
        format=_FORMAT,
        quantization_status="compressed",
        # each by its name, for vLLM insists on knowing all
        ignore=[
            name.removesuffix(_WEIGHT)
            for name, tensor in tensors.items()
            if tensor.ndim > 1 and name.endswith(_WEIGHT) and name not in matrices
        ],
    ).to_dict()
    return config
