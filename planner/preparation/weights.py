"""The pruned weights of a run: what builds them, and their cache in its folder."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from planner.preparation.pruning_methods import PruningMethods
from planner.preparation.student_statistics import TUNING_STATISTICS, tuning_statistics
from planner.runs.folder import (
    LEVELS_FOLDER,
    STATISTICS_FOLDER,
    WEIGHTS_FILE,
    delete_prepared,
)
from search_spaces.models.loading import LoadedModel
from search_spaces.progress import Progress
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.expert_builder import ExpertBuilder
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.quantizers.source_matrices import SourceMatrices
from search_spaces.pruned_weights.quantizers.vocabulary_builder import VocabularyBuilder
from search_spaces.pruned_weights.stand_ins import StandIns
from search_spaces.pruned_weights.weight_record import WeightRecord
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.space import SearchSpace
from search_spaces.statistics import LayerStatistics
from search_spaces.surgery.layer_builder import LayerBuilder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunWeights:
    """What the pruned weights of a run are built from."""

    loaded: LoadedModel
    sorted_model: SortedModel
    """The structure of `loaded`, its units in pruning order."""
    methods: PruningMethods
    space: SearchSpace
    statistics: LayerStatistics
    """In the model's own order of units."""
    tokens: Tensor
    """Token ids ``(windows, tokens)`` that the statistics were measured on."""
    folder: Path
    """Of the run."""
    limit_bytes: int
    """What the cache may take of the disk."""
    progress: Progress
    is_guest: bool = False
    """Whether the folder is that of another process, which alone records what is used."""

    def layer_builder(self, *, prebuild: bool, restore_statistics: bool) -> LayerBuilder:
        """Return what shapes layers, with pruned weights where a method changes them.

        Compensated weights of all widths are built now if they fit into the cache, those of
        sparsity patterns when they are first needed.

        Args:
            prebuild: Whether to build now what can be; without it, weights that are not on disk
                are only built when they are needed.
            restore_statistics: Whether to measure lost statistics now if some weights are built
                when they are needed, so that an export finds what it builds them from.
        """
        methods = self.methods
        if not methods.changes_weights:
            return LayerBuilder(self.sorted_model, self.space.block_options)
        statistics = self.statistics
        if methods.weight_statistics & TUNING_STATISTICS:
            statistics = tuning_statistics(
                self.sorted_model, statistics, self.tokens, self.progress
            )
        cache = self._cache(statistics)
        builds_on_demand = not (prebuild and self._prebuild(cache))
        if restore_statistics and builds_on_demand:
            self.statistics.of_all()
        return LayerBuilder(self.sorted_model, self.space.block_options, cache)

    def _cache(self, statistics: LayerStatistics) -> WeightCache:
        space = self.space
        projections = ProjectionBuilder(
            self.sorted_model,
            statistics,
            compensation=self.methods.compensation,
            rewriting=self.methods.rewriting,
            stand_ins=StandIns(space.components, statistics) if self.methods.stands_in else None,
            sources=self._sources,
        )
        return WeightCache(
            self.folder / LEVELS_FOLDER,
            WeightBuilder(
                projections,
                self._experts(statistics),
                self._ends,
                dtype=self.loaded.stored.rounding,
                progress=self.progress,
            ),
            widths=[_widths(space, position) for position in range(len(space.components))],
            digest=self._digest,
            limit_bytes=self.limit_bytes,
            record=None if self.is_guest else self.record,
        )

    @cached_property
    def record(self) -> WeightRecord:
        """Which weights plans of the run were scored with."""
        return WeightRecord(self.folder / WEIGHTS_FILE, self._digest)

    @property
    def _digest(self) -> str:
        """What identifies all that the weights follow from."""
        space = self.space
        return f"{self.loaded.identity.fingerprint} {space.weights_digest} {orders_digest(space)}"

    def _experts(self, statistics: LayerStatistics) -> ExpertBuilder:
        """Return what builds weights of experts."""
        experts = self.methods.experts
        if experts.notice:
            logger.info(experts.notice)
        return ExpertBuilder(
            self.sorted_model,
            statistics,
            merging=experts.merging,
            sparsifier=experts.sparsifier,
            quantizer=experts.quantizer,
            sources=self._sources,
        )

    @property
    def _ends(self) -> VocabularyBuilder | None:
        """What builds the embedding and the head."""
        quantizer = self.methods.ends
        structure = self.sorted_model.structure
        if quantizer is None:
            return None
        return VocabularyBuilder(structure, quantizer, self._sources)

    @cached_property
    def _sources(self) -> SourceMatrices:
        """The bytes of the matrices that came from a quantised file."""
        return SourceMatrices(self.loaded.gguf, self.loaded.model.dtype)

    def _prebuild(self, cache: WeightCache) -> bool:
        """Build the compensated weights of all widths, if they fit.

        Returns:
            Whether these are all that the run needs; the statistics are deleted then.
        """
        if self.methods.compensation is None:
            return False
        size = cache.dense_bytes
        if size > self.limit_bytes:
            logger.warning(
                "compensated weights would take %.1f GB, and %.1f may be used: they are built "
                "when they are needed, slowly; raise --weight_cache_gigabytes, or --mlp_step for "
                "fewer",
                size / 1e9,
                self.limit_bytes / 1e9,
            )
            return False
        self.progress.stage("compensating for pruned heads and channels")
        cache.build_all(progress=self.progress)
        rewrites = any(
            options.rewrites for of_one in self.space.block_options for options in of_one
        )
        if rewrites or self.methods.merges_experts or self.methods.stands_in:
            return False
        delete_prepared(self.folder, STATISTICS_FOLDER)
        return True


def _widths(space: SearchSpace, position: int) -> tuple[int, ...]:
    """Return the unit counts that levels of a component keep, without none and without all."""
    if not space.components[position].projections:  # nothing is compensated
        return ()
    unit_count = space.components[position].unit_count
    counts = {
        space.tables[position][configuration][0]
        for site in space.sites
        for configuration in site.configurations_by_target.get(position, ())
    }
    return tuple(sorted(counts - {0, unit_count}))


def orders_digest(space: SearchSpace) -> str:
    """Return what identifies the orders of units."""
    orders = [*space.orders, *space.orders.channels.values()]
    content = b"".join(order.astype(np.int64).tobytes() for order in orders)
    return hashlib.sha256(content).hexdigest()[:10]
