"""Levels on disk: made when first asked for, mapped when read, forgotten when space runs out."""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from search_spaces.atomic_files import discard, is_temporary, replacing, writing
from search_spaces.models.memory import available_bytes
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.pruned_weights.bitmask import pack, unpack
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.sparsity import DENSE, SparsityPattern

logger = logging.getLogger(__name__)

LIMIT_BYTES = 1_500_000_000
"""Default bound on what a store takes of the disk."""
UNPACKED_BYTES = 2**31
"""Of sparse levels used last, which stay in memory, for they cannot be mapped; a quarter of what
is free where that is less."""
VERSION = "1"
"""Of the layout of a file, and of how weights are made."""

_Key = tuple[int, int, SparsityPattern]
"""Position of the component, units kept, pattern."""


class WeightCache:
    """The levels of one model in a folder, a file each.

    Several processes may share a folder: files are written under another name and renamed, and one
    that is gone is made again. What was read stays readable after its file is deleted.

    Args:
        folder: Where the files are; made where there is none.
        builder: Makes what is not there.
        widths: For each component the counts of units that are made together, ascending.
        digest: Of all that the weights follow from: model, text, orders, settings. A file of
            another digest is made anew.
        limit_bytes: Of disk; the levels not read for longest are deleted.
    """

    def __init__(
        self,
        folder: Path,
        builder: WeightBuilder,
        widths: Sequence[Sequence[int]],
        *,
        digest: str,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self._folder = folder
        self._builder = builder
        self._widths = widths
        self._digest = digest
        self._limit_bytes = limit_bytes
        self._unpacked: dict[_Key, PrunedWeights] = {}
        self._room = min(UNPACKED_BYTES, available_bytes("cpu") // 4)
        _clear_unfinished(folder)

    def level(self, position: int, count: int, pattern: SparsityPattern = DENSE) -> PrunedWeights:
        """Give the weights of a choice, mapped from disk where they are stored dense.

        Args:
            position: Of the component.
            count: Units that it keeps.
            pattern: How sparse its matrices are.

        Raises:
            OutputError: Where they cannot be written.
            DataError: Where the statistics are of far too few tokens.
            SettingsError: Where the pattern does not fit a matrix.
        """
        if self._builder.is_plain(position, count, pattern):
            return {}
        key = (position, count, pattern)
        level = self._unpacked.pop(key, None)
        if level is None:
            level = self._read(key)
        if level is None:
            level = self._make(key)
        if not pattern.is_dense:
            self._unpacked[key] = level  # the last one was used last
            while len(self._unpacked) > 1 and _size(self._unpacked) > self._room:
                del self._unpacked[next(iter(self._unpacked))]
        return level

    def build_all(
        self,
        positions: Iterable[int] | None = None,
        patterns: Sequence[SparsityPattern] = (DENSE,),
        progress: Progress = NO_PROGRESS,
    ) -> None:
        """Make all levels that are not there.

        Args:
            positions: Of the components; none: of all.
            patterns: At each of which every width is made.
            progress: Told of each component that is done.

        Raises:
            OutputError: Where they cannot be written.
        """
        chosen = range(len(self._widths)) if positions is None else list(positions)
        for done, position in enumerate(chosen):
            for pattern in patterns:
                for count in self._widths[position]:
                    self.level(position, count, pattern)
            progress.advance(done + 1, len(chosen))

    @property
    def dense_bytes(self) -> int:
        """What the levels of all widths with dense weights would take."""
        total = 0
        for position, counts in enumerate(self._widths):
            if not counts:
                continue
            output = self._builder.components[position].projections[-1].path
            for count in counts:
                rows, columns = self._builder.shapes(position, count)[output]
                total += rows * columns * self._builder.dtype.itemsize
        return total

    @property
    def bytes_held(self) -> int:
        """What the levels take of the disk now."""
        return sum(size for _, size, _ in self._files())

    def _make(self, key: _Key) -> PrunedWeights:
        """Make a level, and where it is dense the other widths, which share its factor."""
        position, count, pattern = key
        counts = [count]
        if pattern.is_dense:
            counts = sorted({count, *self._missing_siblings(position, count)})
        asked: PrunedWeights = {}
        levels = self._builder.build(position, [(c, pattern) for c in counts])
        for made, level in zip(counts, levels, strict=True):
            self._write((position, made, pattern), level)
            if made == count:
                asked = level
        self._shrink(self._path(key))
        stored = self._read(key)
        # another process may have deleted it again
        return asked if stored is None else stored

    def _missing_siblings(self, position: int, count: int) -> list[int]:
        """List the other widths to make with a dense level: none where they would not all fit."""
        missing = [
            c
            for c in self._widths[position]
            if c != count
            and not self._builder.is_plain(position, c, DENSE)
            and self._read((position, c, DENSE)) is None
        ]
        output = self._builder.components[position].projections[-1].path
        shapes = [self._builder.shapes(position, c)[output] for c in (count, *missing)]
        size = sum(rows * columns for rows, columns in shapes) * self._builder.dtype.itemsize
        return missing if self.bytes_held + size <= self._limit_bytes else []

    def _path(self, key: _Key) -> Path:
        position, count, pattern = key
        name = f"{count}" if pattern.is_dense else f"{count}-{pattern}"
        return self._folder / self._builder.components[position].name / f"{name}.safetensors"

    def _marks(self, key: _Key) -> dict[str, str]:
        position, count, pattern = key
        level = f"{self._builder.components[position].name} {count} {pattern}"
        return {"version": VERSION, "digest": self._digest, "level": level}

    def _read(self, key: _Key) -> PrunedWeights | None:
        """Give a level as it is stored; none where it is not, or not as it should be."""
        position, count, _ = key
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                marks = file.metadata() or {}
                if any(marks.get(name) != value for name, value in self._marks(key).items()):
                    logger.warning("`%s` is of another model, text or settings; made anew", path)
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            level = _unpacked(tensors, self._builder.shapes(position, count))
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, LookupError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0][:100]
            logger.warning("`%s` is damaged (%s); made anew", path, reason)
            return None
        used = time.time_ns()  # the kernel's own stamp is some milliseconds coarse
        with suppress(OSError):  # another's files can be read all the same
            os.utime(path, ns=(used, used))
        return level

    def _write(self, key: _Key, level: PrunedWeights) -> None:
        path = self._path(key)
        is_sparse = not key[2].is_dense
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        content = save(_packed(level, is_sparse=is_sparse), self._marks(key))
        with replacing(path) as whole:
            whole.write_bytes(content)

    def _shrink(self, spared: Path) -> None:
        """Delete the levels that were not read for longest, but one, until the bound is kept."""
        files = sorted(self._files())
        held = sum(size for _, size, _ in files)
        for _, size, path in files:
            if held <= self._limit_bytes:
                break
            if path != spared:
                discard(path)
                held -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """List the levels on disk: time of last use, bytes, path."""
        found = []
        for path in self._folder.glob("*/*.safetensors"):
            try:
                status = path.stat()
            except OSError:  # another process deleted it
                continue
            if not is_temporary(path):
                found.append((status.st_mtime_ns, status.st_size, path))
        return found


def _clear_unfinished(folder: Path) -> None:
    """Delete what killed processes left half-written."""
    for path in folder.glob("*/.*"):
        owner = path.name.split(".tmp")[0].rpartition(".")[2]
        if is_temporary(path) and not (owner.isdigit() and psutil.pid_exists(int(owner))):
            discard(path)


def _size(levels: Mapping[_Key, PrunedWeights]) -> int:
    return sum(matrix.weight.nbytes for level in levels.values() for matrix in level.values())


def _packed(level: PrunedWeights, *, is_sparse: bool) -> dict[str, Tensor]:
    """Name the tensors of a level as its file does."""
    tensors = {}
    for path, matrix in level.items():
        weight = matrix.weight.cpu().contiguous()
        if is_sparse:
            tensors[f"{path}.bits"], tensors[f"{path}.values"] = pack(weight)
        else:
            tensors[f"{path}.weight"] = weight
        if matrix.bias is not None:
            tensors[f"{path}.bias"] = matrix.bias.cpu().contiguous()
    return tensors


def _unpacked(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]]
) -> PrunedWeights:
    """Give the level that `_packed` named.

    Raises:
        ValueError: Where a matrix is not of its shape.
    """
    level = {}
    for path, (rows, columns) in shapes.items():
        weight = tensors.get(f"{path}.weight")
        if f"{path}.bits" in tensors:
            weight = unpack(tensors[f"{path}.bits"], tensors[f"{path}.values"], columns)
        if weight is None:
            continue
        if weight.shape != (rows, columns):
            raise ValueError(f"{path} is {tuple(weight.shape)}, not {(rows, columns)}")
        level[path] = LinearWeights(weight, tensors.get(f"{path}.bias"))
    return level
