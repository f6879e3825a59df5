"""Pruned weights of projections: its width first, compensated, then zeros, then its format."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights, Compensation
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.quantizers.source_matrices import NO_SOURCES, SourceMatrices
from search_spaces.pruned_weights.rewriting import NO_REWRITING, Rewriting
from search_spaces.pruned_weights.stand_ins import StandIns
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.number_format import SOURCE, STORED
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, MatrixStatistics
from search_spaces.structure.components import Component, Projection
from search_spaces.structure.linear import as_index, bias, matrix

logger = logging.getLogger(__name__)


class ProjectionBuilder:
    """Makes the pruned weights of attentions, MLPs and shared experts, in float32.

    Compensation first: the output projection at its width. Then, where the pattern has zeros, the
    sparsifier and the refinement on every projection of the narrow component, and where it has a
    number format the quantiser, with the statistics of the dense model for the kept rows and
    columns.

    Args:
        sorted_model: The model.
        statistics: In the unsorted model's order, as the three methods declare.
        compensation: Compensates in narrow output projections; None: they stay slices.
        rewriting: Makes matrices sparse, and puts them into number formats.
        stand_ins: Folds maps into output projections, after compensation and before zeros; None:
            no options have stand-ins.
        sources: Of matrices that are to stay as they came.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        statistics: LayerStatistics,
        *,
        compensation: Compensation | None = None,
        rewriting: Rewriting = NO_REWRITING,
        stand_ins: StandIns | None = None,
        sources: SourceMatrices = NO_SOURCES,
    ) -> None:
        self.components = sorted_model.structure.components
        self._structure = sorted_model.structure
        self._statistics = statistics
        self._orders = sorted_model.orders
        self._compensation = compensation
        self._rewriting = rewriting
        self._stand_ins = stand_ins
        self._sources = sources
        self._warned: set[tuple[str, str]] = set()

    def is_plain(self, position: int, count: int, options: BlockOptions) -> bool:
        narrow = 0 < count < self.components[position].unit_count
        is_changed = options.rewrites or options.stand_in or (narrow and self._compensation)
        return not count or not is_changed

    def shapes(
        self, position: int, count: int, _options: BlockOptions = DENSE_OPTIONS
    ) -> Mapping[str, tuple[int, ...]]:
        component = self.components[position]
        layer = self._structure.owner(component)
        shapes = {}
        for projection in component.projections:
            rows, columns = matrix(layer.get_submodule(projection.path)).shape
            size = len(projection.first(count))
            has_unit_rows = projection.side == "rows"
            shapes[projection.path] = (size, columns) if has_unit_rows else (rows, size)
        return shapes

    def linear(
        self,
        position: int,
        choice: Choice,
        path: str,
        quantized: QuantizedMatrix,
        bias: Tensor | None,
    ) -> LinearWeights:
        numbers = quantized.dequantized()
        if not self._comes_whole(position, choice):
            return LinearWeights(numbers, bias, quantized)
        projection = next(p for p in self.components[position].projections if p.path == path)
        order = as_index(projection.sorted_features(self._orders[position]))
        weight = numbers[order] if projection.side == "rows" else numbers[:, order]
        return LinearWeights(weight, bias, quantized, as_it_came=True)

    @torch.no_grad()
    def build(
        self,
        position: int,
        choices: Sequence[Choice],
        compensated_before: PrunedWeights | None = None,
    ) -> Iterator[PrunedWeights]:
        component = self.components[position]
        narrow = [
            count
            for count, _ in choices
            if compensated_before is None and not self.is_plain(position, count, DENSE_OPTIONS)
        ]
        if narrow or any(o.rewrites or o.stand_in for _, o in choices):
            self._statistics.of(component.layer)  # before the layer is in use
        with self._structure.resident(component) as layer:
            by_width = self._compensated(position, layer, sorted(set(narrow)))
            width, compensated = 0, None
            for count, options in choices:
                assert count >= width, "choices must ascend by their width"
                if count in narrow and count > width:
                    compensated = next(by_width)
                    self._warn(component, compensated)
                elif count not in narrow:
                    compensated = None
                width = count
                before = compensated_before or {}
                yield self._weights(position, layer, (count, options), compensated, before)

    def _compensated(
        self, position: int, layer: nn.Module, counts: list[int]
    ) -> Iterator[CompensatedWeights]:
        if self._compensation is None or not counts:
            return iter(())
        output = self.components[position].projections[-1]
        widths = [len(output.first(count)) for count in counts]
        weight = matrix(layer.get_submodule(output.path)).float()
        statistics = self._sorted_statistics(
            position, output, self.components[position].unit_count
        )
        return self._compensation.compensate(weight, widths, statistics)

    def _weights(
        self,
        position: int,
        layer: nn.Module,
        choice: Choice,
        compensated: CompensatedWeights | None,
        before: PrunedWeights,
    ) -> PrunedWeights:
        count, options = choice
        if self.is_plain(position, count, options):
            return {}
        component = self.components[position]
        pruned: dict[str, LinearWeights] = {}
        for projection in component.projections:
            is_output = projection is component.projections[-1]
            output = compensated if is_output else None
            is_compensated = output is not None and not output.fallback
            stand_in = options.stand_in if is_output else 0
            if not (options.rewrites or is_compensated or stand_in):
                continue
            if projection.path in before:
                linear = _as_float(before[projection.path])
            else:
                linear = _sliced(layer.get_submodule(projection.path), projection, count, output)
            if stand_in:
                assert self._stand_ins is not None, f"no stand-ins for {component.name}"
                linear = self._stand_ins.folded(position, stand_in, linear)
            pruned[projection.path] = self._rewritten(position, projection, choice, linear)
        return pruned

    def _rewritten(
        self, position: int, projection: Projection, choice: Choice, linear: LinearWeights
    ) -> LinearWeights:
        """Return a projection with the zeros and in the number format of its component."""
        count, options = choice
        if not options.rewrites:
            return linear
        if options.format == SOURCE:
            came_in = self._sources.format_of(self._name(position, projection))
            if came_in != STORED and self._stays(position, projection, choice):
                return self._as_it_came(position, projection, choice, linear)
            options = replace(options, format=came_in.anew)
        component, weight = self.components[position], linear.weight
        columns, place = weight.shape[1], f"layers.{component.layer}.{projection.path}"
        options.pattern.check_fits(columns, place)
        statistics = self._sorted_statistics(position, projection, count)
        self._check_tokens(component, statistics.tokens, columns)
        return self._rewriting.rewritten(linear, options, statistics.to(weight.device))

    def _as_it_came(
        self, position: int, projection: Projection, choice: Choice, linear: LinearWeights
    ) -> LinearWeights:
        """Return a projection with the bytes that the model's own file has of its rows."""
        weight, name = linear.weight, self._name(position, projection)
        if self._comes_whole(position, choice):
            own = as_index(np.argsort(projection.sorted_features(self._orders[position])))
            weight = weight[own] if projection.side == "rows" else weight[:, own]
        quantized = self._sources.matrix(name, weight)
        return self.linear(position, choice, projection.path, quantized, linear.bias)

    def _stays(self, position: int, projection: Projection, choice: Choice) -> bool:
        """Return whether the rows of a matrix are those that came, if some are left out."""
        if not choice[1].pattern.is_dense:
            return False
        return projection.side == "rows" or self._comes_whole(position, choice)

    def _comes_whole(self, position: int, choice: Choice) -> bool:
        """Return whether all of a component stays as it came, in the model's own order."""
        component, (count, options) = self.components[position], choice
        output = self._name(position, component.projections[-1])
        return (
            options.format == SOURCE
            and count == component.unit_count
            and options.pattern.is_dense
            and not options.stand_in
            and self._sources.format_of(output) != STORED
        )

    def _name(self, position: int, projection: Projection) -> str:
        """Return the name of a projection's weight in the model."""
        return self._structure.tensor_name(self.components[position], projection.path)

    def _sorted_statistics(
        self, position: int, projection: Projection, count: int
    ) -> MatrixStatistics:
        """Return the statistics of a projection that keeps the first units, in sorted order."""
        layer = self.components[position].layer
        statistics = MatrixStatistics.of(self._statistics.of(layer), projection.path)
        features = projection.sorted_features(self._orders[position])[projection.first(count)]
        if projection.side == "rows":
            return statistics.picked(rows=features)
        return statistics.picked(columns=features)

    def _check_tokens(self, component: Component, tokens: int, columns: int) -> None:
        """Warn where there are too few tokens to tell the inputs of a matrix apart."""
        reads_gram = "gram" in self._rewriting.statistics
        if reads_gram and tokens < columns and (component.kind, "text") not in self._warned:
            self._warned.add((component.kind, "text"))
            logger.warning(
                "`%s` and others like it: %d tokens cannot tell %d inputs apart, so that sparse "
                "or quantised weights lean on damping; raise `--calibration_windows`",
                component.name,
                tokens,
                columns,
            )

    def _warn(self, component: Component, compensated: CompensatedWeights) -> None:
        for text in filter(None, (compensated.fallback, compensated.notice)):
            # widths differ in their numbers only: the first one stands for all
            kind = "fallback" if text == compensated.fallback else "notice"
            if (component.name, kind) not in self._warned:
                self._warned.add((component.name, kind))
                logger.warning("`%s`: %s", component.name, text)


def _as_float(linear: LinearWeights) -> LinearWeights:
    return LinearWeights(
        linear.weight.float(), None if linear.bias is None else linear.bias.float()
    )


def _sliced(
    linear: nn.Module, projection: Projection, count: int, compensated: CompensatedWeights | None
) -> LinearWeights:
    """Slice or compensate a projection to its first units, in float32."""
    weight, offset = matrix(linear).float(), bias(linear)
    offset = None if offset is None else offset.float()
    first = torch.from_numpy(projection.first(count)).to(weight.device)
    if projection.side == "rows":
        return LinearWeights(weight[first], None if offset is None else offset[first])
    if compensated is None:
        return LinearWeights(weight[:, first], offset)
    added = [value for value in (offset, compensated.bias) if value is not None]
    return LinearWeights(compensated.weight, sum(added[1:], added[0]) if added else None)
