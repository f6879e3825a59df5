"""Units and the rows that belong to them."""

import numpy as np

from search_spaces.structure import Projection
from search_spaces.structure.projections import Projections


def test_rows_of_each_unit_ascend() -> None:
    projection = Projection(path="qkv", side="rows", units=np.array([0, 0, 1, 1, 0, 1, 0, 1]))
    assert projection.by_unit.tolist() == [[0, 1, 4, 6], [2, 3, 5, 7]]


def test_a_component_is_named_after_its_layer() -> None:
    component = Projections(kind="mlp", layer=3, unit_count=8, projections=(), module="mlp")
    assert component.name == "layers.3.mlp"
