"""Configurations: their numbering, and the way from units and options to an index and back."""

from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.space.block_options import (
    SITE_NAMES,
    BlockOptions,
    OptionDimension,
    combined_options,
)
from search_spaces.space.configuration import (
    ConfigurationTable,
    ConfigurationTables,
    Dimension,
    dense_configurations,
    unit_counts,
)
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.projections import Projections

HALF, NARROW = SparsityPattern(percent=50), 8
OPTIONS = combined_options([DENSE, HALF], [0, NARROW])
COMPONENTS = tuple(
    Projections(kind="mlp", layer=layer, unit_count=count, projections=(), module="mlp")
    for layer, count in enumerate((3, 5, 3))
)
BLOCK_OPTIONS = (OPTIONS, combined_options(), OPTIONS)
TABLES = ConfigurationTables.of(COMPONENTS, BLOCK_OPTIONS)


def test_units_run_from_none_to_all_once_for_each_of_the_options() -> None:
    table = ConfigurationTable(3, OPTIONS)
    assert table.units.tolist() == [0, 1, 2, 3] * 4
    assert table.options_index.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4
    assert table[3] == (table.unit_count, BlockOptions())
    assert table[10] == (2, BlockOptions(channels=NARROW))
    assert table[15] == (3, BlockOptions(pattern=HALF, channels=NARROW))


def test_dropped_is_zero_whatever_the_options() -> None:
    table = ConfigurationTable(3, OPTIONS)
    assert table.index(np.zeros(4, dtype=np.int_), np.arange(4)).tolist() == [0] * 4


def test_without_options_a_configuration_is_a_number_of_units() -> None:
    table = ConfigurationTable(5)
    assert table.index(np.arange(6)).tolist() == list(range(6))
    assert table.units.tolist() == list(range(6))


def test_dropped_and_dense_components_are_plain() -> None:
    table = ConfigurationTable(3, OPTIONS)
    assert [c for c in range(16) if table.is_plain(c)] == [0, table.dense]
    assert table[table.dense] == (3, BlockOptions())


@given(st.lists(st.tuples(*(st.integers(0, len(t.units) - 1) for t in TABLES)), min_size=1))
def test_units_and_options_give_their_index_back(rows: list[tuple[int, ...]]) -> None:
    configurations = np.array(rows)
    units, options = TABLES.units(configurations), TABLES.options_index(configurations)
    expected = np.where(units > 0, configurations, 0)
    assert (TABLES.index(units, options) == expected).all()
    assert [(int(u), OPTIONS[o]) for u, o in zip(units[:, 0], options[:, 0], strict=True)] == [
        TABLES[0][first] for first, *_ in rows
    ]


def test_an_index_is_stored_row_by_row() -> None:
    units = np.asfortranarray(np.tile(unit_counts(COMPONENTS), (4, 1)))
    index = TABLES.index(units, np.zeros_like(units))
    assert index.flags.c_contiguous
    assert (index == dense_configurations(COMPONENTS)).all()


def test_equal_tables_are_one() -> None:
    assert TABLES[0] is TABLES[2]
    assert TABLES[0] is not TABLES[1]
    assert len(TABLES) == len(COMPONENTS)


def test_no_configuration_lies_outside_its_table() -> None:
    with pytest.raises(IndexError):
        TABLES[1][6]


@given(st.integers(0, 15), st.integers(0, 15), st.sampled_from(get_args(Dimension)))
def test_merging_keeps_the_less_of_two_configurations_along_a_dimension(
    first: int, second: int, dimension: Dimension
) -> None:
    table = ConfigurationTable(3, OPTIONS)
    (units, options), (other_units, other_options) = table[first], table[second]
    if not units:
        options = BlockOptions()  # what is dropped has no options, and so none to give
    if not other_units:
        other_options = BlockOptions()
    if dimension == "units":
        units = min(units, other_units)
    else:  # options are listed from the dense one on
        values = [getattr(each, dimension) for each in (*OPTIONS, options, other_options)]
        value = max(values[-2:], key=values.index)
        options = replace(options, **{dimension: value})
    merged = int(table.merged(first, dimension, second))
    assert table[merged] == ((units, options) if units else (0, BlockOptions()))


def test_along_a_dimension_all_others_are_dense() -> None:
    table = ConfigurationTable(3, OPTIONS)
    assert table.along("units").tolist() == [0, 1, 2, 3]
    assert [table[c][1] for c in table.along("pattern")] == [BlockOptions(), OPTIONS[1]]
    assert [table[c][1] for c in table.along("channels")] == [BlockOptions(), OPTIONS[2]]
    assert table.along("top_k").tolist() == [table.dense]


def test_every_field_of_options_is_a_dimension_and_has_a_site_but_stand_ins() -> None:
    names = {field.name for field in fields(BlockOptions)}
    assert names == set(get_args(OptionDimension)) == {*SITE_NAMES, "stand_in"}
