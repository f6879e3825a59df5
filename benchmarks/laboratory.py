"""SmolLM2-135M under any importance and compensation, scored on hold-out text at any widths."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.contest import text_options
from evaluators.collectors import collect_statistics
from evaluators.metric import Measurement
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.cli.commands.demo_command import demo_model
from planner.preparation.calibration import calibrate
from planner.preparation.dense_model import open_model
from planner.preparation.student_statistics import tuning_statistics
from planner.settings.search import SearchSettings
from search_spaces.importance import UnitImportanceName, make_unit_importance
from search_spaces.importance.order import rank_units
from search_spaces.progress import NoProgress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.compensation import CompensationName, make_compensation
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.refinements import RefinementName, make_refinement
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.sparsifiers import SparsifierName, make_sparsifier
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.configuration import (
    Configurations,
    ConfigurationTables,
    unit_counts,
)
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.statistics import LayerStatistics, MatrixStatistics, StatisticName
from search_spaces.surgery.layer_builder import LayerBuilder, WeightSource
from search_spaces.surgery.sort import sort_units_, sorted_as_is

if TYPE_CHECKING:
    from search_spaces.space.orders import Orders

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
class Quality:
    """Quality of a candidate on hold-out text."""

    kl: Measurement
    nll: Measurement

    @property
    def perplexity(self) -> str:
        """Perplexity with its error."""
        value = float(np.exp(min(self.nll.value, 700.0)))
        return f"{value:.1f} ± {value * self.nll.standard_error:.1f}"


class Switch(LayerBuilder):
    """Builds layers by another layer builder, which can be exchanged."""

    current: LayerBuilder

    def layer(self, index: int, configurations: NDArray[np.int_]) -> nn.Module:
        return self.current.layer(index, configurations)


class LazyWeights:
    """Pruned weights by position, count and options, built when they are first asked for."""

    def __init__(self, builder: WeightBuilder) -> None:
        self._builder = builder
        self._built: dict[tuple[int, int, BlockOptions], PrunedWeights] = {}

    def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        key = (position, count, options)
        if key not in self._built:
            (self._built[key],) = self._builder.build(position, [(count, options)])
        return self._built[key]


class Laboratory:
    """One model with all statistics, and hold-out text that none of them has seen.

    Args:
        calibration_windows: To take statistics from.
        holdout_windows: To score on.
        tokens: In each window.
        statistics: Which to collect.
        seed: Draws the windows.
    """

    def __init__(
        self,
        *,
        calibration_windows: int,
        holdout_windows: int,
        tokens: int,
        statistics: frozenset[StatisticName] = STATISTICS,
        seed: int = 0,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        folder = Path(self._scratch.name)
        settings = SearchSettings.checked(
            model=str(demo_model()),
            seed=seed,
            dtype="float32",
            device="cpu",
            search_windows=2,
            fresh_windows=2,
            calibration_windows=calibration_windows,
            holdout_windows=holdout_windows,
            window_tokens=tokens,
            **text_options(folder),
        )
        dense = open_model(settings, NoProgress())
        self.structure = dense.structure
        self.sorted_model = sorted_as_is(dense.structure)
        self.widths = unit_counts(self.structure.components)
        self.stored_dtype = dense.loaded.stored_dtype
        calibration = calibrate(dense, settings, folder, NoProgress())
        self.statistics = collect_statistics(
            self.structure, calibration.statistics, statistics, folder=folder / "statistics"
        )
        self._windows = calibration.statistics
        self._ranked: dict[UnitImportanceName, Orders] = {}
        self._switch = Switch(self.sorted_model)
        self._evaluator = Evaluator(
            self.sorted_model,
            calibration.holdout,
            Fidelity(metrics=("kl", "nll"), state_bytes=0),
            layer_builder=self._switch,
        )

    def sort(self, importance: UnitImportanceName) -> None:
        """Sort the model's units by an importance."""
        if importance not in self._ranked:
            with self.sorted_model.own_order() as structure:
                method = make_unit_importance(importance)
                self._ranked[importance] = rank_units(structure, method, self.statistics)
        structure = self.sorted_model.restore_()
        self.sorted_model = sort_units_(structure, self._ranked[importance])

    def layer_builder(
        self,
        *,
        compensation: CompensationName | None = None,
        sparsifier: SparsifierName | None = None,
        refinement: RefinementName | None = None,
        patterns: Sequence[SparsityPattern] = (DENSE,),
    ) -> LayerBuilder:
        """Return what builds layers of the model in the current order of its units."""
        statistics = LayerStatistics.measured(self.statistics)
        if compensation == "tuning":
            statistics = tuning_statistics(
                self.sorted_model, statistics, self._windows, NoProgress()
            )
        projections = ProjectionBuilder(
            self.sorted_model,
            statistics,
            compensation=make_compensation(compensation) if compensation else None,
            rewriting=Rewriting(
                sparsifier=make_sparsifier(sparsifier) if sparsifier else None,
                refinement=make_refinement(refinement) if refinement else None,
            ),
        )
        weights = LazyWeights(WeightBuilder(projections, dtype=self.stored_dtype))
        block_options = [combined_options(patterns)] * len(self.structure.components)
        return LayerBuilder(self.sorted_model, block_options, weights)

    def uniform(
        self, *, channels: float = 0.0, groups: float = 0.0, pattern: int = 0
    ) -> Configurations:
        """Return a configuration of each component, all pruned alike as nearly as units allow.

        Args:
            channels: Share of each MLP's channels to prune.
            groups: Share of all KV groups to prune, spread evenly over the layers.
            pattern: Position of the sparsity pattern of all components.
        """
        layers = len(self.widths) // 2
        pruned = groups * self.widths[0::2] * np.arange(1, layers + 1)
        kept_counts = self.widths.copy()
        kept_counts[0::2] -= np.diff(np.round(pruned), prepend=0.0).astype(np.int_)
        kept_counts[1::2] -= np.round(channels * self.widths[1::2]).astype(np.int_)
        options = combined_options((DENSE,) * (pattern + 1))  # only their number matters
        tables = ConfigurationTables.of(self.structure.components, [options] * len(kept_counts))
        return tables.index(kept_counts, np.full(len(kept_counts), pattern))

    def score(self, configurations: Configurations, layer_builder: LayerBuilder) -> Quality:
        """Score a candidate on the hold-out text."""
        self._switch.current = layer_builder
        ((_, score),) = self._evaluator.score(configurations[None])
        return Quality(kl=score.quality["kl"], nll=score.quality["nll"])

    def matrices(self) -> "Matrices":
        """Return each projection's matrix, by position of its component and path."""
        return {
            (position, path): weight.clone()
            for position, (_, weights) in enumerate(self.structure.matrices())
            for path, weight in weights.items()
        }

    def matrix_statistics(self, position: int, path: str) -> MatrixStatistics:
        """Return the statistics of one matrix, features in their current order."""
        component = self.structure.components[position]
        projection = next(p for p in component.projections if p.path == path)
        features = projection.sorted_features(self.sorted_model.orders[position])
        statistics = MatrixStatistics.of(self.statistics[component.layer], path)
        if projection.side == "rows":
            return statistics.picked(rows=features)
        return statistics.picked(columns=features)


Matrices = dict[tuple[int, str], Tensor]
"""By position of the component and path."""


def weights_of(matrices: Matrices, dtype: torch.dtype) -> WeightSource:
    """Return matrices that other code made as weights of full width, whatever the pattern."""
    by_position: dict[int, dict[str, LinearWeights]] = {}
    for (position, path), weight in matrices.items():
        by_position.setdefault(position, {})[path] = LinearWeights(weight.to(dtype))

    class Fixed:
        def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
            return by_position[position]

    return Fixed()
