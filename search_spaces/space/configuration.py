"""Configurations: what a genome makes of each component, as indices into the component's table.

A configuration is a place along each dimension: how many units the component keeps, and each field
of its options. Indices start with the numbers of units from none to all under the dense options,
then repeat them for each further options. Dropped is 0 whatever the options.

>>> from search_spaces.space.sparsity import DENSE, SparsityPattern
>>> table = ConfigurationTable(3, combined_options([DENSE, SparsityPattern(percent=50)]))
>>> table.units.tolist()
[0, 1, 2, 3, 0, 1, 2, 3]
>>> table.options_index.tolist()
[0, 0, 0, 0, 1, 1, 1, 1]
>>> table.index(units=np.array([0, 2, 3, 0]), options_index=np.array([0, 1, 0, 1])).tolist()
[0, 6, 3, 0]
>>> units, options = table[6]
>>> units, str(options)
(2, '50%')
>>> table.merged(np.array([2, 0, 6]), "pattern", 7).tolist()
[6, 0, 6]
>>> table.merged(np.array([2, 0, 6]), "units", 1).tolist()
[1, 0, 5]
>>> table.along("pattern").tolist()
[3, 7]
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.block_options import (
    BlockOptions,
    OptionDimension,
    combined_options,
)
from search_spaces.space.levels import stood_in_for
from search_spaces.structure.components import Component

Dimension = Literal["units", OptionDimension]
"""What a site chooses along: the number of kept units, or a field of their options."""
_DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

Configurations = NDArray[np.int_]
"""Of each component, ``(candidates, components)``: attention, MLP, attention, …"""


@dataclass(frozen=True)
class ConfigurationTable:
    """The configurations of one component; the only place that knows how they are numbered.

    Args:
        unit_count: Units of the dense component.
        options: What the component chooses among, the dense options first.
    """

    unit_count: int
    options: tuple[BlockOptions, ...] = combined_options()

    @cached_property
    def units(self) -> NDArray[np.int_]:
        """Units that each configuration keeps, ``(configurations,)``."""
        return np.tile(np.arange(self.unit_count + 1), len(self.options))

    @cached_property
    def options_index(self) -> NDArray[np.int_]:
        """Position of each configuration's options among `options`, ``(configurations,)``."""
        return np.repeat(np.arange(len(self.options)), self.unit_count + 1)

    @property
    def dense(self) -> int:
        """The configuration that keeps all units, with the dense options."""
        return self.unit_count

    def __getitem__(self, configuration: int) -> tuple[int, BlockOptions]:
        """Return the kept units and the options of one configuration."""
        options = self.options[int(self.options_index[configuration])]
        return int(self.units[configuration]), options

    def index(
        self, units: NDArray[np.int_] | int, options_index: NDArray[np.int_] | int = 0
    ) -> NDArray[np.int_]:
        """Return the configurations with some numbers of units and some options.

        Args:
            units: Units kept, of any shape.
            options_index: Positions of the options among `options`, of the same shape.
        """
        return np.where(
            np.asarray(units) > 0, units + np.asarray(options_index) * (self.unit_count + 1), 0
        )

    def is_plain(self, configuration: int) -> bool:
        """Whether a configuration is dropped or dense, and so has no weights of its own."""
        return configuration in (0, self.dense)

    def merged(
        self,
        configurations: NDArray[np.int_] | int,
        dimension: Dimension,
        others: NDArray[np.int_] | int,
    ) -> NDArray[np.int_]:
        """Return what configurations come to if others are asked of along one dimension, too.

        Of units the fewer are kept, so that what is dropped stays so; of an option the later one
        of its list, which begins with the dense one.

        Args:
            configurations: Of any shape.
            dimension: Along which the others count.
            others: Configurations, of the same shape.
        """
        axis = _DIMENSIONS.index(dimension)
        places = self._places[:, configurations].copy()  # of a single one it is a view
        less = np.minimum if dimension == "units" else np.maximum
        places[axis] = less(places[axis], self._places[axis, others])
        found: NDArray[np.int_] = self._at_places[tuple(places)]
        assert np.all(found >= 0), "these options are not combined with each other"
        return found

    def along(self, dimension: Dimension) -> NDArray[np.int_]:
        """Return the configurations that are dense but along one dimension, ``(places,)``.

        Units from none to all; options as they are listed, the dense one first.
        """
        dense = self._places[:, self.dense]
        at = [
            slice(None) if d == dimension else place
            for d, place in zip(_DIMENSIONS, dense, strict=True)
        ]
        found: NDArray[np.int_] = self._at_places[tuple(at)]
        return found

    @cached_property
    def _places(self) -> NDArray[np.int_]:
        """The place of each configuration along each dimension, ``(dimensions, configurations)``.

        Options take theirs in the order in which they first come; what is dropped has none.
        """
        places = [self.units]
        for dimension in get_args(OptionDimension):
            values = [getattr(options, dimension) for options in self.options]
            distinct = {value: place for place, value in enumerate(dict.fromkeys(values))}
            places.append(np.array([distinct[value] for value in values])[self.options_index])
        return np.where(self.units > 0, np.stack(places), 0)

    @cached_property
    def _at_places(self) -> NDArray[np.int_]:
        """The configuration at places, an axis for each dimension; -1 where there is none."""
        found = np.full(self._places.max(axis=1) + 1, -1)
        found[tuple(self._places)] = np.arange(self._places.shape[1])
        found[0] = 0
        return found


@dataclass(frozen=True)
class ConfigurationTables:
    """The tables of all components of a model, in the order of the components."""

    tables: tuple[ConfigurationTable, ...]

    @classmethod
    def of(
        cls,
        components: Sequence[Component],
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
    ) -> Self:
        """Return the tables of some components; equal ones are one object.

        Args:
            components: Of a model.
            block_options: The options of each component, the dense ones first; None: these alone.
        """
        shared: dict[ConfigurationTable, ConfigurationTable] = {}
        tables = []
        for position, component in enumerate(components):
            options = tuple(block_options[position]) if block_options else combined_options()
            table = ConfigurationTable(component.unit_count, options)
            tables.append(shared.setdefault(table, table))
        return cls(tuple(tables))

    def __getitem__(self, position: int) -> ConfigurationTable:
        return self.tables[position]

    def __iter__(self) -> Iterator[ConfigurationTable]:
        return iter(self.tables)

    def __len__(self) -> int:
        return len(self.tables)

    def units(self, configurations: Configurations) -> NDArray[np.int_]:
        """Return the units that each configuration keeps, ``(..., components)`` as given."""
        units = np.empty_like(configurations)
        for position, table in enumerate(self.tables):
            units[..., position] = table.units[configurations[..., position]]
        return units

    def options_index(self, configurations: Configurations) -> NDArray[np.int_]:
        """Return the position of each one's options among its component's, as `units` does."""
        indices = np.empty_like(configurations)
        for position, table in enumerate(self.tables):
            indices[..., position] = table.options_index[configurations[..., position]]
        return indices

    def with_stand_ins(
        self,
        configurations: Configurations,
        asked: NDArray[np.bool_],
        stands: NDArray[np.bool_],
    ) -> Configurations:
        """Return configurations in which what is kept stands in for what asks for it.

        Args:
            configurations: ``(candidates, components)``
            asked: Which components ask for it if they are dropped, of the same shape.
            stands: Which components may stand in for those after them, ``(components,)``.
        """
        counts = stood_in_for(asked & (configurations == 0), stands & (configurations > 0))
        standing = configurations.copy()
        for position in np.flatnonzero(counts.any(axis=0)):
            table = self.tables[position]
            along = table.along("stand_in")[counts[:, position]]
            standing[:, position] = table.merged(standing[:, position], "stand_in", along)
        return standing

    def stood_in(self, configurations: Configurations) -> NDArray[np.bool_]:
        """Mark the components of one candidate ``(components,)`` that others stand in for."""
        marks = np.zeros(configurations.shape, dtype=np.bool_)
        for position, configuration in enumerate(configurations.tolist()):
            count = self.tables[position][configuration][1].stand_in
            marks[position + 1 : position + 1 + count] = True
        return marks

    def index(self, units: NDArray[np.int_], options_index: NDArray[np.int_]) -> Configurations:
        """Return the configurations with some numbers of units and some options.

        Args:
            units: Units kept, ``(..., components)``.
            options_index: Positions of the options among the component's, likewise.
        """
        # C order whatever the order of the arguments: later sums must not depend on it
        configurations = np.empty(units.shape, dtype=np.int_)
        for position, table in enumerate(self.tables):
            configurations[..., position] = table.index(
                units[..., position], options_index[..., position]
            )
        return configurations


def unit_counts(components: Sequence[Component]) -> NDArray[np.int_]:
    """Return the units of each component, ``(components,)``."""
    return np.array([component.unit_count for component in components])


def dense_configurations(components: Sequence[Component]) -> Configurations:
    """Return the configuration of each component that keeps all of it, ``(components,)``."""
    return np.array([ConfigurationTable(component.unit_count).dense for component in components])
