"""Statistics on disk: one file a layer, memory-mapped when it is read."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evaluators.collectors.names import ALWAYS, OF_EXPERT_REMOVAL, OF_REMOVAL, Key, keys_of
from search_spaces.atomic_files import replacing, writing
from search_spaces.models.tensor_files import writing_tensors
from search_spaces.models.tensors import digest_of_file, digest_of_tensors
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)

_VERSION = 2
"""Raised whenever a statistic is computed or stored differently."""


def digest_of(
    windows: Tensor, names: frozenset[StatisticName], removal_windows: int, identity: str
) -> str:
    """Return a digest that is distinct for each model, text and choice of statistics.

    The dtype is left out: an export in another one needs the very numbers of the search.
    """
    facts = [
        _VERSION,
        identity,
        sorted(names | ALWAYS),
        removal_windows if names & (OF_REMOVAL | OF_EXPERT_REMOVAL) else 0,
        list(windows.shape),
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    digest.update(windows.cpu().long().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _ForeignError(Exception):
    """A file of another digest."""


@dataclass(frozen=True)
class StatisticsFiles:
    """The files of one model, text and choice.

    Args:
        folder: Where they lie; created if missing.
        digest: As `digest_of` returns it.
    """

    folder: Path
    digest: str

    def save(self, index: int, statistics: Statistics) -> Statistics:
        """Write the statistics of a layer and return them mapped; shared tensors are written once.

        Raises:
            OutputError: If the place cannot be written to; no file is half-written.
        """
        path = self._path(index)
        names: dict[int, str] = {}
        tensors: dict[str, Tensor] = {}
        places: dict[str, str] = {}
        for (name, at), value in statistics.items():
            key = f"{name} {at}"
            places[key] = names.setdefault(id(value), key)
            tensors[places[key]] = value.contiguous()
        metadata = {
            "digest": self.digest,
            "bytes": digest_of_tensors(tensors),
            "places": json.dumps(places),
        }
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with writing_tensors(path), replacing(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
        return self._read(index, is_new=True)

    def load(
        self, structure: ModelStructure, names: frozenset[StatisticName]
    ) -> dict[int, Statistics]:
        """Return, by layer, memory-mapped, what was collected before.

        Args:
            structure: The model.
            names: Statistics that each layer must have.
        """
        by_layer: dict[int, Statistics] = {}
        foreign = False
        for index, layer in enumerate(structure.layers):
            try:
                statistics = self._read(index)
                if set(statistics) != set(keys_of(layer, names)):
                    raise ValueError("it lacks some of its statistics")  # noqa: TRY301
                by_layer[index] = statistics
            except FileNotFoundError:
                continue
            except _ForeignError:
                foreign = True
            except PermissionError:  # a sound file may be behind it
                raise
            except (OSError, SafetensorError, ValueError, LookupError, TypeError):
                logger.warning("`%s` is damaged and is made again", self._path(index))
        if foreign:
            logger.warning(
                "`%s` holds statistics of another model, text or choice, and they are made again",
                self.folder,
            )
        return by_layer

    def _path(self, index: int) -> Path:
        return self.folder / f"layer-{index:03}.safetensors"

    def _read(self, index: int, *, is_new: bool = False) -> Statistics:
        """Read the statistics of a layer, and hold them against their digest but if just written.

        Raises:
            ValueError: If they are others than were written.
        """
        path = self._path(index)
        with path.open("rb"):  # raises OSError with its reason, which safetensors hides
            pass
        with safe_open(path, framework="pt") as opened:
            metadata: Mapping[str, str] = opened.metadata() or {}
            if metadata.get("digest") != self.digest:
                raise _ForeignError
            places: Mapping[str, str] = json.loads(metadata["places"])
            if not set(places.values()) <= set(opened.keys()):
                raise ValueError("it lacks some of its tensors")
        if not is_new and metadata["bytes"] != digest_of_file(path):
            raise ValueError("its bytes are not those that were written")
        return _Stored(path, {_key(text): name for text, name in places.items()})


@dataclass(frozen=True)
class _Stored(Mapping[Key, Tensor]):
    """The statistics of one layer in a file, each mapped for as long as it is in use.

    Those of all layers at once would count as the process's memory, of which they may be most.
    """

    path: Path
    places: Mapping[Key, str]

    def __getitem__(self, key: Key) -> Tensor:
        name = self.places[key]
        with safe_open(self.path, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[Key]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _key(text: str) -> Key:
    name, _, path = text.partition(" ")
    return cast("StatisticName", name), path
