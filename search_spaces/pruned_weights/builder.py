"""Making levels: a component's width first, mended, then the zeros in what is left of it."""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.compensation.protocol import CompensatedWeights, Compensation
from search_spaces.pruned_weights.sparsifiers.protocol import Refinement, Sparsifier
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName, Statistics
from search_spaces.structure.components import Component, Projection
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)

Choice = tuple[int, SparsityPattern]
"""Units that a component keeps, and how sparse its matrices are."""


class WeightBuilder:
    """Makes the weights of any choice of any component.

    Compensation first: the output projection at its width. Then, where the pattern has zeros, the
    sparsifier and the refinement on every projection of the narrow component, with the statistics
    of the dense model for the rows and columns that it keeps.

    Args:
        structure: The model, its units sorted already.
        statistics: Of each layer, in the model's own order, as `wanted` asks.
        orders: For each component its units from the last to go to the first to go.
        compensation: Mends narrow output projections; none: they stay slices.
        sparsifier: Makes matrices sparse; none: patterns other than dense are not asked for.
        refinement: Betters sparse matrices; none: they stay as they are.
        dtype: That weights are stored in: they are rounded to it, and both scored and exported so.
    """

    def __init__(  # noqa: PLR0913  (the parts of a level)
        self,
        structure: ModelStructure,
        statistics: Sequence[Statistics],
        orders: Sequence[NDArray[np.int_]],
        *,
        compensation: Compensation | None = None,
        sparsifier: Sparsifier | None = None,
        refinement: Refinement | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.components = structure.components
        self._backbone = structure.backbone
        self._statistics = statistics
        self._orders = orders
        self._compensation = compensation
        self._sparsifier = sparsifier
        self._refinement = refinement
        self.dtype = dtype
        self._told: set[tuple[str, str]] = set()

    @property
    def wanted(self) -> frozenset[StatisticName]:
        """The statistics that must be collected for every projection."""
        parts = (self._compensation, self._sparsifier, self._refinement)
        names: frozenset[StatisticName] = frozenset({"tokens"})
        return names.union(*(part.statistics for part in parts if part))

    def is_plain(self, position: int, count: int, pattern: SparsityPattern) -> bool:
        """Tell whether a choice has no weights of its own, without making any."""
        narrow = 0 < count < self.components[position].unit_count
        return not count or (pattern.is_dense and not (narrow and self._compensation))

    def shapes(self, position: int, count: int) -> Mapping[str, tuple[int, int]]:
        """Give the rows and columns of each projection of a component that keeps some units."""
        component = self.components[position]
        layer = self._backbone.layers[component.layer]
        shapes = {}
        for projection in component.projections:
            rows, columns = matrix(layer.get_submodule(projection.path)).shape
            size = len(projection.first(count))
            own = (size, columns) if projection.side == "rows" else (rows, size)
            shapes[projection.path] = own
        return shapes

    @torch.no_grad()
    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[PrunedWeights]:
        """Make the weights of several choices of one component.

        Args:
            position: Of the component.
            choices: Ascending by the units kept; all widths among them share a factor.

        Yields:
            For each choice its weights, on the model's device.

        Raises:
            DataError: Where the statistics are of far too few tokens.
            SettingsError: Where a pattern does not fit a matrix.
        """
        component = self.components[position]
        self._statistics[
            component.layer
        ]  # may have to run the model, which must not be in use then
        narrow = [count for count, _ in choices if not self.is_plain(position, count, DENSE)]
        with self._backbone.resident(component.layer) as layer:
            compensate = self._repairs(position, layer, sorted(set(narrow)))
            width, compensated = 0, None
            for count, pattern in choices:
                assert count >= width, "choices must ascend by their width"
                if count in narrow and count > width:
                    compensated = next(compensate)
                    self._tell(component, compensated)
                elif count not in narrow:
                    compensated = None
                width = count
                yield self._level(position, layer, (count, pattern), compensated)

    def _repairs(
        self, position: int, layer: nn.Module, counts: list[int]
    ) -> Iterator[CompensatedWeights]:
        if self._compensation is None or not counts:
            return iter(())
        output = self.components[position].projections[-1]
        widths = [len(output.first(count)) for count in counts]
        weight = matrix(layer.get_submodule(output.path)).float()
        everything = self.components[position].unit_count
        return self._compensation.compensate(
            weight, widths, self._picked(position, output, everything)
        )

    def _level(
        self,
        position: int,
        layer: nn.Module,
        choice: Choice,
        compensated: CompensatedWeights | None,
    ) -> PrunedWeights:
        count, pattern = choice
        if self.is_plain(position, count, pattern):
            return {}
        component = self.components[position]
        level = {}
        for projection in component.projections:
            compensated_here = compensated if projection is component.projections[-1] else None
            is_changed = compensated_here is not None and not compensated_here.fallback
            if pattern.is_dense and not is_changed:
                continue
            whole = _sliced(
                layer.get_submodule(projection.path), projection, count, compensated_here
            )
            weight = whole.weight
            if not pattern.is_dense:
                pattern.check_fits(weight.shape[1], f"layers.{component.layer}.{projection.path}")
                measured = self._picked(position, projection, count).to(weight.device)
                self._check_text(component, measured.tokens, weight.shape[1])
                weight = self._sparse(weight, pattern, measured)
            offset = None if whole.bias is None else whole.bias.to(self.dtype)
            level[projection.path] = LinearWeights(weight.to(self.dtype).contiguous(), offset)
        return level

    def _sparse(
        self, weight: Tensor, pattern: SparsityPattern, measured: MatrixStatistics
    ) -> Tensor:
        assert self._sparsifier is not None, f"nothing makes matrices {pattern} sparse"
        sparse = self._sparsifier.sparsified(weight, pattern, measured)
        if self._refinement is not None:
            sparse = self._refinement.refined(sparse, weight, pattern, measured)
        return sparse

    def _picked(self, position: int, projection: Projection, count: int) -> MatrixStatistics:
        """Give the statistics of a projection that keeps the first units, in sorted order."""
        layer = self.components[position].layer
        found = MatrixStatistics.of(self._statistics[layer], projection.path)
        features = projection.sorted_features(self._orders[position])[projection.first(count)]
        if projection.side == "rows":
            return found.picked(rows=features)
        return found.picked(columns=features)

    def _check_text(self, component: Component, tokens: int, columns: int) -> None:
        """Say where there are too few tokens to tell the inputs of a matrix apart."""
        wanted = frozenset().union(
            *(part.statistics for part in (self._sparsifier, self._refinement) if part)
        )
        if "gram" in wanted and tokens < columns and (component.kind, "text") not in self._told:
            self._told.add((component.kind, "text"))
            logger.warning(
                "`%s` and others like it: %d tokens cannot tell %d inputs apart, so that sparse "
                "weights lean on damping; raise `--calibration_windows`",
                component.name,
                tokens,
                columns,
            )

    def _tell(self, component: Component, compensated: CompensatedWeights) -> None:
        for text in filter(None, (compensated.fallback, compensated.notice)):
            # widths differ in their numbers only: the first one stands for all
            kind = "fallback" if text == compensated.fallback else "notice"
            if (component.name, kind) not in self._told:
                self._told.add((component.name, kind))
                logger.warning("`%s`: %s", component.name, text)


def _sliced(
    linear: nn.Module, projection: Projection, count: int, compensated: CompensatedWeights | None
) -> LinearWeights:
    """Give a projection of the first units, in float32."""
    weight, offset = matrix(linear).float(), bias(linear)
    offset = None if offset is None else offset.float()
    first = torch.from_numpy(projection.first(count)).to(weight.device)
    if projection.side == "rows":
        return LinearWeights(weight[first], None if offset is None else offset[first])
    if compensated is None:
        return LinearWeights(weight[:, first], offset)
    added = [value for value in (offset, compensated.bias) if value is not None]
    return LinearWeights(compensated.weight, sum(added[1:], added[0]) if added else None)
