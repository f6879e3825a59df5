"""Pruned weights on disk: made on first use, memory-mapped, evicted when space runs out."""

import logging
import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from search_spaces.atomic_files import discard, is_abandoned, replacing, writing
from search_spaces.models.tensors import digest_of_file, digest_of_tensors
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.recent import RecentWeights
from search_spaces.pruned_weights.stored_tensors import aligned, is_packed, tensors_of, weights_of
from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.pruned_weights.weight_record import WeightRecord
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions

logger = logging.getLogger(__name__)

VERSION = "4"
"""Of the layout of a file, and of how weights are made."""
_OWN_NAME = re.compile(r"\d+(-.+)?\.safetensors")

_Key = tuple[int, int, BlockOptions]
"""Position of the component, units kept, and their options as far as they change weights."""


class WeightCache:
    """The pruned weights of one model in a folder, a file for each component and choice of it.

    Several processes may share a folder: files are written under another name and renamed, and one
    that is missing or damaged is made again. What was read stays readable after its file is
    deleted. A file carries a digest of its tensors, which is checked when it is first read.

    Args:
        folder: Of the files; made if there is none.
        builder: Makes what is missing.
        widths: For each component the counts of units that are made together, ascending.
        digest: Of all that the weights follow from: model, text, orders, settings. A file of
            another digest is made anew.
        limit_bytes: Of disk; the files least recently read are deleted.
        record: Of the weights that were used first; None: none is kept.
    """

    def __init__(
        self,
        folder: Path,
        builder: WeightBuilder,
        widths: Sequence[Sequence[int]],
        *,
        digest: str,
        limit_bytes: float = math.inf,
        record: WeightRecord | None = None,
    ) -> None:
        self._folder = folder
        self._builder = builder
        self._widths = widths
        self._digest = digest
        self._limit_bytes = limit_bytes
        self._record = record
        self._digests: dict[_Key, str] = {}  # of the bytes of what was read or made last
        # weights that are sparse or in a number format cannot be mapped
        self._unpacked = RecentWeights()
        self._checked: set[tuple[Path, int]] = set()  # with the inode, for another may replace it
        for path in folder.glob("*/.*"):
            if is_abandoned(path):
                discard(path)

    def weights(
        self, position: int, count: int, options: BlockOptions = DENSE_OPTIONS
    ) -> PrunedWeights:
        """Return the weights of a choice, mapped from disk where they are stored dense.

        Args:
            position: Of the component.
            count: Units that it keeps.
            options: Of these units.

        Raises:
            OutputError: If they cannot be written.
            DataError: If the statistics are of far too few tokens.
            SettingsError: If the pattern does not fit a matrix.
        """
        if self._builder.is_plain(position, count, options):
            return {}
        key = (position, count, options.of_weights)
        weights = self._unpacked.pop(key)
        if weights is None:
            weights = self._read(key)
        if weights is None:
            weights = self._make(key)
        if is_packed(options):
            self._unpacked.add(key, weights)
        if self._record is not None:
            self._record.note(self._name(key), self._digests[key], weights)
        return weights

    def build_all(
        self,
        positions: Iterable[int] | None = None,
        block_options: Sequence[BlockOptions] = (DENSE_OPTIONS,),
        progress: Progress = NO_PROGRESS,
    ) -> None:
        """Make all weights that are missing.

        Args:
            positions: Of the components; None: all.
            block_options: With each of which every width is made.
            progress: Advanced with each component.

        Raises:
            OutputError: If they cannot be written.
        """
        chosen = range(len(self._widths)) if positions is None else list(positions)
        for done, position in enumerate(chosen):
            for options in block_options:
                for count in self._widths[position]:
                    self.weights(position, count, options)
            progress.advance(done + 1, len(chosen))

    @property
    def dense_bytes(self) -> int:
        """Disk space that the compensated weights of all widths would take."""
        return sum(self._output_bytes(*of_all) for of_all in enumerate(self._widths))

    @property
    def bytes_held(self) -> int:
        """Disk space that the files take now."""
        return sum(size for _, size, _ in self._files())

    def _make(self, key: _Key) -> PrunedWeights:
        """Make weights, and where they are dense the other widths, which share their factor."""
        position, count, options = key
        counts = [count]
        if options == DENSE_OPTIONS:
            counts = sorted({count, *self._missing_siblings(position, count)})
        requested: PrunedWeights = {}
        compensated = None
        if options.only_stands_in:  # a fit for one width takes as long as for all of them
            compensated = self.weights(position, count)
        choices = [(width, options) for width in counts]
        built = self._builder.build(position, choices, compensated)
        for width, weights in zip(counts, built, strict=True):
            self._write((position, width, options), weights)
            if width == count:
                requested = weights
        self._shrink(self._path(key))
        stored = self._read(key)
        # another process may have deleted it again
        return requested if stored is None else stored

    def _missing_siblings(self, position: int, count: int) -> list[int]:
        """List missing other widths of dense weights, the nearest first, as far as they fit."""
        missing = [
            c
            for c in self._widths[position]
            if c != count
            and not self._builder.is_plain(position, c, DENSE_OPTIONS)
            and self._read((position, c, DENSE_OPTIONS)) is None
        ]
        if not missing:  # as of mixtures, whose widths share nothing
            return []
        room = self._limit_bytes - self.bytes_held
        nearest = [count, *sorted(missing, key=lambda other: abs(other - count))]
        sizes = accumulate(self._output_bytes(position, [each]) for each in nearest)
        fitting = [each for each, size in zip(nearest, sizes, strict=True) if size <= room]
        return fitting[1:]

    def _output_bytes(self, position: int, counts: Sequence[int]) -> int:
        """Count the bytes of a component's output projection at several widths."""
        if not counts:
            return 0
        output = self._builder.components[position].projections[-1].path
        shapes = [self._builder.shapes(position, c, DENSE_OPTIONS)[output] for c in counts]
        return sum(map(math.prod, shapes)) * self._builder.dtype.itemsize

    def _path(self, key: _Key) -> Path:
        position, count, options = key
        name = "-".join(filter(None, [str(count), options.weights_name]))
        return self._folder / self._builder.components[position].name / f"{name}.safetensors"

    def _name(self, key: _Key) -> str:
        position, count, options = key
        return f"{self._builder.components[position].name} {count} {options}"

    def _marks(self, key: _Key) -> dict[str, str]:
        # the name `level` is part of the layout
        return {"version": VERSION, "digest": self._digest, "level": self._name(key)}

    def _read(self, key: _Key) -> PrunedWeights | None:
        """Read stored weights; none where there are none, or none of this cache."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                marks = file.metadata() or {}
                if any(marks.get(name) != value for name, value in self._marks(key).items()):
                    logger.warning("`%s` is of another model, text or settings; made anew", path)
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._check(path, marks["bytes"])
            linear = partial(self._builder.linear, key[0], key[1:])
            weights = weights_of(tensors, self._builder.shapes(*key), linear)
        except FileNotFoundError:
            return None
        except PermissionError:  # a sound file may be behind it
            raise
        except (OSError, SafetensorError, LookupError, ValueError, RuntimeError):
            logger.warning("`%s` is damaged; made anew", path)
            return None
        self._digests[key] = marks["bytes"]
        used = time.time_ns()  # the kernel's own stamp is some milliseconds coarse
        with suppress(OSError):  # another's files can be read all the same
            os.utime(path, ns=(used, used))
        return weights

    def _check(self, path: Path, digest: str) -> None:
        """Hold the tensors of a file against their digest, unless that was done.

        Raises:
            ValueError: If they are others than were written.
        """
        identity = path, path.stat().st_ino
        if identity not in self._checked:
            if digest_of_file(path) != digest:
                raise ValueError("its bytes are not those that were written")
            self._checked.add(identity)

    def _write(self, key: _Key, weights: PrunedWeights) -> None:
        path = self._path(key)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        tensors = tensors_of(weights, key[2])
        self._digests[key] = digest = digest_of_tensors(tensors)
        content = save(tensors, self._marks(key) | {"bytes": digest})
        with replacing(path) as temporary:
            with temporary.open("wb") as file:
                file.writelines(aligned(content))
            written = temporary.stat().st_ino
        self._checked.add((path, written))

    def _shrink(self, spared: Path) -> None:
        """Delete the files least recently read, but for one, until the bound is kept."""
        files = sorted(self._files())
        held = sum(size for _, size, _ in files)
        for _, size, path in files:
            if held <= self._limit_bytes:
                break
            if path != spared:
                discard(path)
                held -= size

    def _files(self) -> list[tuple[int, int, Path]]:
        """List the files: time of last use, bytes, path."""
        files = []
        for path in self._folder.glob("*/*.safetensors"):
            try:
                status = path.lstat()
            except OSError:  # another process deleted it
                continue
            if _OWN_NAME.fullmatch(path.name):
                files.append((status.st_mtime_ns, status.st_size, path))
        return files
