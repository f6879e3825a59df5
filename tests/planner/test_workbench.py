from typing import Any, cast

import numpy as np
import pytest

from planner.workbench import Workbench
from search_spaces.plan import ModelIdentity
from search_spaces.space import SpaceName, build_space
from search_spaces.structure.sub_block import SubBlock, SubBlockKind

UNITS: dict[SubBlockKind, int] = {"attention": 3, "mlp": 64}
BLOCKS = tuple(
    SubBlock(kind=kind, layer=layer, unit_count=count, projections=(), module=kind)
    for layer in range(2)
    for kind, count in UNITS.items()
)


@pytest.mark.parametrize(
    ("space", "kinds"),
    [
        ("joint", ("attention", "mlp", "attention", "mlp")),
        ("sub_blocks", ("attention", "mlp", "attention", "mlp")),
        ("blocks", ("layer", "layer")),
    ],
)
def test_a_searcher_is_told_the_kind_of_every_site(
    space: SpaceName, kinds: tuple[str, ...]
) -> None:
    units = [np.arange(block.unit_count) for block in BLOCKS]
    identity = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
    bench = Workbench(
        dense=cast("Any", None),  # no cost is asked for
        space=build_space(identity, BLOCKS, units, kind=space),
        calibration=cast("Any", None),
        harms=tuple(np.ones(block.unit_count) for block in BLOCKS),
    )
    domain = bench.domain({}, 0.5)
    assert domain.kinds == kinds
    assert len(domain.kinds) == len(domain.top_levels) == len(domain.harm_tables)
