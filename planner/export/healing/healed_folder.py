"""The files of an export with trained weights in the place of its own; all else stays."""

import re
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from planner.export.pipeline import CARD, MANIFEST
from planner.targets.hf.loaded_folder import load_folder, stored_tensors
from planner.targets.hf.stock import as_published
from search_spaces.errors import ModelError, quoted
from search_spaces.models.fingerprint import lasting
from search_spaces.models.own_exports import wiring_of

_WEIGHTS = re.compile(r".*\.safetensors(\.index\.json)?")


class HealedFolder:
    """An export with some weights trained, to be written anew.

    Args:
        source: The folder of the export.
        weights: Those that were trained, by their names in memory.
    """

    def __init__(self, source: Path, weights: Mapping[str, Tensor]) -> None:
        self._source = source
        self._formats = _formats(source)
        self.model = load_folder(source, dtype=torch.float32)
        usual = Counter(self._formats.values()).most_common(1)[0][0]
        with torch.no_grad():
            for name, weight in weights.items():
                # experts have other names in files
                rounded = weight.to(self._formats.get(name, usual))
                self.model.get_parameter(name).copy_(rounded)

    def write(self, folder: Path) -> None:
        """Write its files into an empty folder, but for what tells of its weights.

        Raises:
            ModelError: If the export holds other tensors than its model.
        """
        for path in self._source.iterdir():
            is_told = path.name in {CARD, MANIFEST} or _WEIGHTS.fullmatch(path.name)
            if path.is_file() and not is_told:
                shutil.copyfile(path, folder / path.name)
        weights: Mapping[str, Tensor] = lasting(self.model)
        if wiring_of(self.model.config) is None:
            weights = as_published(weights, type(self.model), self.model.config)
        if odd := sorted(weights.keys() ^ self._formats.keys()):
            raise ModelError(
                f"an export must hold the tensors that its model has, and {quoted(odd[0])} is in "
                "one of them alone; export the plan again"
            )
        # experts are views of a stack, and safetensors writes no views
        stored = {
            name: tensor.detach().to(self._formats[name]).clone().contiguous()
            for name, tensor in weights.items()
        }
        save_torch_state_dict(stored, folder, metadata={"format": "pt"})


def _formats(folder: Path) -> dict[str, torch.dtype]:
    """Return the number format of each tensor in the files of an export, by its name there."""
    return {name: tensor.dtype for name, tensor in stored_tensors(folder)}
