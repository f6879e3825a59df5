from typing import Any, cast

import numpy as np
import pytest

from planner.preparation.prepared_model import PreparedModel
from search_spaces.models.identity import ModelIdentity
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.sparsity import sparsity_patterns
from search_spaces.structure.components import ComponentKind
from search_spaces.structure.projections import Projections

UNITS: dict[ComponentKind, int] = {"attention": 3, "mlp": 64}
BLOCKS = tuple(
    Projections(kind=kind, layer=layer, unit_count=count, projections=(), module=kind)
    for layer in range(2)
    for kind, count in UNITS.items()
)


@pytest.mark.parametrize(
    ("space", "kinds"),
    [
        ("heads,channels,drops", ("attention", "mlp", "attention", "mlp")),
        ("drops", ("attention", "mlp", "attention", "mlp")),
        ("layers", ("layer", "layer")),
        ("channels", ("mlp", "mlp")),
        ("sparsity", ("weights",) * 4),
        ("heads,2:4", ("attention", "weights", "weights", "attention", "weights", "weights")),
        ("layers,sparsity", ("layer", "weights", "weights", "layer", "weights", "weights")),
    ],
)
def test_the_domain_names_the_kind_of_every_site(space: str, kinds: tuple[str, ...]) -> None:
    units = [np.arange(component.unit_count) for component in BLOCKS]
    identity = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
    choices = Choices.parse(space)
    patterns = sparsity_patterns(choices)
    prepared = PreparedModel(
        dense=cast("Any", None),  # no cost is asked for
        sorted_model=cast("Any", None),
        space=build_space(identity, BLOCKS, units, choices=choices, patterns=patterns),
        calibration=cast("Any", None),
        prior=SensitivityPrior(
            units=tuple(np.ones(component.unit_count) for component in BLOCKS),
            options=(np.arange(len(patterns), dtype=np.float64),) * len(BLOCKS),
        ),
        layer_builder=cast("Any", None),
        weight_record=cast("Any", None),
        methods=cast("Any", None),
    )
    domain = prepared.make_domain({}, 0.5)
    assert domain.kinds == kinds
    assert len(domain.kinds) == len(domain.top_levels) == len(domain.sensitivity_tables)
    for top, sensitivities in zip(domain.top_levels, domain.sensitivity_tables, strict=True):
        assert len(sensitivities) == top + 1
        assert (np.diff(sensitivities) <= 0).all()
        assert sensitivities[-1] == 0
