"""What compensated weights take: disk, memory and work; and the step of widths that fits."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.runs.folder import LEVELS_FOLDER
from planner.settings.search import SearchSettings
from search_spaces.space.build import unit_levels
from search_spaces.space.levels import LARGEST_STEP
from search_spaces.structure.linear import matrix

logger = logging.getLogger(__name__)

FREE_SHARE = 0.5
"""Of the free disk, what weights may take where the settings name no bound."""
FEWEST_THAT_FIT = 4
"""Levels that the widest MLP keeps, however little disk there is."""
_SINGLE, _DOUBLE = 4, 8
"""Bytes of a number of statistics, and of those that are fitted."""
_OPERATIONS_A_MINUTE = 60 * 80e9
"""In float64 on two cores with AVX-512; reading, rounding and writing weights included."""


@dataclass(frozen=True, kw_only=True)
class WeightNeeds:
    """What it takes to compensate every output projection at every width."""

    disk_bytes: int
    """All widths of all components."""
    statistics_bytes: int
    """Second moments of all inputs in float32, which lie on the disk until the weights do."""
    memory_bytes: int
    """The most that one component takes beside the model: its second moments in float32, and two
    triangular matrices of that size and three of its weights in float64."""
    operations: float
    """Multiplications and additions in float64. A matrix of ``(rows, columns)`` takes a product
    with its second moments, their factor, one substitution, the factor's inverse and one product
    more: ``4 · rows · columns² + columns³`` for all of its widths together."""

    def __str__(self) -> str:
        return (
            f"compensated weights take {self.disk_bytes / 1e9:.1f} GB of disk; to be made, "
            f"{self.statistics_bytes / 1e9:.1f} GB more for statistics, "
            f"{self.memory_bytes / 1e9:.1f} GB of memory beside the model, and "
            f"{self.operations:.1e} operations in float64: about "
            f"{self.operations / _OPERATIONS_A_MINUTE:.1f} min on two cores"
        )

    @classmethod
    def of(cls, dense: DenseModel, settings: SearchSettings) -> "WeightNeeds":
        """Count them for a model."""
        disk_bytes, statistics_bytes, memory_bytes, operations = 0, 0, 0, 0.0
        layers, itemsize = dense.structure.backbone.layers, dense.loaded.stored.rounding.itemsize
        for component in dense.structure.components:
            if not component.projections:
                continue
            output, layer = component.projections[-1], layers[component.layer]
            rows, columns = matrix(layer.get_submodule(output.path)).shape
            counts = unit_levels(component, settings.space, settings.mlp_step, dense.holds)
            widths = [len(output.first(count)) for count in counts[:-1] if count]
            if not widths:
                continue
            read = matrix(layer.get_submodule(component.reader)).shape[1]
            statistics_bytes += (read**2 + columns**2) * _SINGLE
            disk_bytes += rows * sum(widths) * itemsize
            held = columns**2 * (_SINGLE + 2 * _DOUBLE) + 3 * rows * columns * _DOUBLE
            memory_bytes = max(memory_bytes, held)
            operations += 4.0 * rows * columns**2 + float(columns) ** 3
        return cls(
            disk_bytes=disk_bytes,
            statistics_bytes=statistics_bytes,
            memory_bytes=memory_bytes,
            operations=operations,
        )


def cache_bound(settings: SearchSettings, folder: Path) -> int:
    """Return what the weights of a run may take of the disk, what they take now included.

    Args:
        settings: Of the run.
        folder: Of the run.
    """
    if settings.weight_cache_bytes is not None:
        return settings.weight_cache_bytes
    held = sum(path.lstat().st_size for path in folder.glob(f"{LEVELS_FOLDER}/*/*"))
    return round(FREE_SHARE * (shutil.disk_usage(folder).free + held))


def fitting_step(dense: DenseModel, settings: SearchSettings, limit_bytes: int) -> int | None:
    """Return how many channels apart widths must be for their weights to fit on the disk.

    Args:
        dense: The model.
        settings: Of the search.
        limit_bytes: What the weights may take.

    Returns:
        A power of two; None: what the settings say, because it fits, or was asked for, or no step
        that leaves a few levels would.
    """
    if settings.mlp_step is not None or not settings.space.channels:
        return None
    needs = WeightNeeds.of(dense, settings)
    if needs.disk_bytes <= limit_bytes:
        return None
    for step in _coarser_steps([each.unit_count for each in dense.structure.components]):
        coarse = WeightNeeds.of(dense, settings.model_copy(update={"mlp_step": step}))
        if coarse.disk_bytes <= limit_bytes:
            logger.info(
                "widths of MLPs are %d channels apart: their compensated weights take %.1f GB, "
                "those of all %.1f GB, and %.1f may be used; set --mlp_step to choose",
                step,
                coarse.disk_bytes / 1e9,
                needs.disk_bytes / 1e9,
                limit_bytes / 1e9,
            )
            return step
    return None


def _coarser_steps(widths: Sequence[int]) -> list[int]:
    """Return powers of two above the usual step, as long as the widest MLP has a few levels.

    >>> _coarser_steps([4, 4864])
    [256, 512, 1024]
    """
    most = int(np.log2(max(1.0, max(widths) / FEWEST_THAT_FIT / LARGEST_STEP)))
    return [LARGEST_STEP << doubled for doubled in range(1, most + 1)]
