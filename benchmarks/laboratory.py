"""SmolLM2-135M under any ranking and repair, scored on hold-out text at widths of one's choice."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.contest import text_options
from evaluators.collectors import collect_statistics
from evaluators.metric import Measurement
from evaluators.scoring.evaluator import Evaluator, Fidelity
from planner.cli.demo import demo_model
from planner.preparation.calibration import calibrate
from planner.preparation.dense_model import open_model
from planner.preparation.student_statistics import tuning_statistics
from planner.settings.search import SearchSettings
from search_spaces.importance import UnitImportanceName, make_unit_importance
from search_spaces.importance.order import rank_units
from search_spaces.progress import NoProgress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.compensation import CompensationName, make_compensation
from search_spaces.pruned_weights.sparsifiers import (
    RefinementName,
    SparsifierName,
    make_refinement,
    make_sparsifier,
)
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import combined_options
from search_spaces.space.configuration import Configurations, configurations_of, unit_counts
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName, Statistics
from search_spaces.surgery.apply import LayerBuilder, WeightSource
from search_spaces.surgery.sort import sort_units_

STATISTICS: frozenset[StatisticName] = frozenset(
    {
        "gram",
        "input_mean",
        "input_magnitude",
        "input_second_moment",
        "gradient",
        "gradient_second_moment",
        "gate_fisher",
    }
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a candidate gave on hold-out text."""

    kl: Measurement
    nll: Measurement

    @property
    def perplexity(self) -> str:
        """Perplexity with its error."""
        value = float(np.exp(min(self.nll.value, 700.0)))
        return f"{value:.1f} ± {value * self.nll.standard_error:.1f}"


class Switch(LayerBuilder):
    """Shapes layers as another shaper does, which can be exchanged."""

    now: LayerBuilder

    def layer(self, index: int, configurations: NDArray[np.int_]) -> nn.Module:
        return self.now.layer(index, configurations)


class Given:
    """Levels made beforehand, by position, count and pattern; widths when they are asked for."""

    def __init__(self, builder: WeightBuilder) -> None:
        self._builder = builder
        self._made: dict[tuple[int, int, SparsityPattern], PrunedWeights] = {}

    def level(self, position: int, count: int, pattern: SparsityPattern) -> PrunedWeights:
        key = (position, count, pattern)
        if key not in self._made:
            (self._made[key],) = self._builder.build(position, [(count, pattern)])
        return self._made[key]


class Laboratory:
    """One model with all statistics, and hold-out text that none of them has seen.

    Args:
        calibration_windows: To take statistics from.
        holdout_windows: To score on.
        tokens: In each window.
        wanted: Which statistics.
        seed: Draws the windows.
    """

    def __init__(
        self,
        *,
        calibration_windows: int,
        holdout_windows: int,
        tokens: int,
        wanted: frozenset[StatisticName] = STATISTICS,
        seed: int = 0,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self._scratch.name)
        settings = SearchSettings.checked(
            model=str(demo_model()),
            seed=seed,
            dtype="float32",
            device="cpu",
            windows=2,
            fresh_windows=2,
            calibration_windows=calibration_windows,
            holdout_windows=holdout_windows,
            window_tokens=tokens,
            **text_options(folder),
        )
        dense = open_model(settings, NoProgress())
        self.structure = dense.structure
        self.widths = unit_counts(self.structure.components)
        self.stored_dtype = dense.loaded.stored_dtype
        calibration = calibrate(dense, settings, folder, NoProgress())
        self.statistics = collect_statistics(
            self.structure, calibration.statistics, wanted, folder=folder / "statistics"
        )
        self._windows = calibration.statistics
        self._orders = [np.arange(width) for width in self.widths]
        self._ranked: dict[UnitImportanceName, tuple[NDArray[np.int_], ...]] = {}
        self._switch = Switch(self.structure)
        self._evaluator = Evaluator(
            self.structure,
            calibration.holdout,
            Fidelity(metrics=("kl", "nll"), state_bytes=0),
            layer_builder=self._switch,
        )

    def sort(self, ranking: UnitImportanceName) -> None:
        """Sort the model's units by a ranking."""
        if ranking not in self._ranked:
            self._sort_by([np.arange(width) for width in self.widths])
            found = rank_units(self.structure, make_unit_importance(ranking), self.statistics)
            self._ranked[ranking] = tuple(found)
        self._sort_by(self._ranked[ranking])

    def _sort_by(self, orders: Sequence[NDArray[np.int_]]) -> None:
        """Sort from whatever order the units have now."""
        steps = [np.argsort(now)[then] for now, then in zip(self._orders, orders, strict=True)]
        sort_units_(self.structure, steps)
        self._orders = list(orders)

    def layer_builder(
        self,
        *,
        compensation: CompensationName | None = None,
        sparsifier: SparsifierName | None = None,
        refinement: RefinementName | None = None,
        patterns: Sequence[SparsityPattern] = (DENSE,),
    ) -> LayerBuilder:
        """Give what shapes layers of the model as it is sorted now."""
        known: Sequence[Statistics] = self.statistics
        if compensation == "tuning":
            known = tuning_statistics(
                self.structure, self._orders, known, self._windows, NoProgress()
            )
        builder = WeightBuilder(
            self.structure,
            known,
            self._orders,
            compensation=make_compensation(compensation) if compensation else None,
            sparsifier=make_sparsifier(sparsifier) if sparsifier else None,
            refinement=make_refinement(refinement) if refinement else None,
            dtype=self.stored_dtype,
        )
        block_options = [combined_options(patterns)] * len(self.structure.components)
        return LayerBuilder(self.structure, block_options, Given(builder))

    def uniform(
        self, *, channels: float = 0.0, groups: float = 0.0, pattern: int = 0
    ) -> Configurations:
        """Give forms ``(components,)`` that cut the same everywhere, as nearly as units allow.

        Args:
            channels: Share of each MLP's channels that goes.
            groups: Share of all KV groups that goes, spread evenly over the layers.
            pattern: Position of the pattern of sparsity of all components.
        """
        layers = len(self.widths) // 2
        gone = groups * self.widths[0::2] * np.arange(1, layers + 1)
        kept = self.widths.copy()
        kept[0::2] -= np.diff(np.round(gone), prepend=0.0).astype(np.int_)
        kept[1::2] -= np.round(channels * self.widths[1::2]).astype(np.int_)
        return configurations_of(kept, np.full(len(kept), pattern), self.widths)

    def score(self, configurations: Configurations, layer_builder: LayerBuilder) -> Found:
        """Score a candidate on the hold-out text."""
        self._switch.now = layer_builder
        ((_, found),) = self._evaluator.score(configurations[None])
        return Found(kl=found.quality["kl"], nll=found.quality["nll"])

    def matrices(self) -> "Matrices":
        """Give each projection's matrix, by position of its component and path."""
        return {
            (position, path): weight.clone()
            for position, (_, weights) in enumerate(self.structure.matrices())
            for path, weight in weights.items()
        }

    def known(self, position: int, path: str) -> MatrixStatistics:
        """Give the statistics of one matrix, features in the order that they have now."""
        component = self.structure.components[position]
        projection = next(p for p in component.projections if p.path == path)
        features = projection.sorted_features(self._orders[position])
        found = MatrixStatistics.of(self.statistics[component.layer], path)
        if projection.side == "rows":
            return found.picked(rows=features)
        return found.picked(columns=features)


Matrices = dict[tuple[int, str], Tensor]
"""By position of the component and path."""


def levels_of(matrices: Matrices, dtype: torch.dtype) -> WeightSource:
    """Turn matrices that other code made into levels of full width, whatever the pattern."""
    made: dict[int, dict[str, LinearWeights]] = {}
    for (position, path), weight in matrices.items():
        made.setdefault(position, {})[path] = LinearWeights(weight.to(dtype))

    class Fixed:
        def level(self, position: int, count: int, pattern: SparsityPattern) -> PrunedWeights:
            return made[position]

    return Fixed()
