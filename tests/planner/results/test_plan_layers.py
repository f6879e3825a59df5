"""The picture of a plan, layer by layer."""

from planner.results.plan_layers import layer_frame
from planner.runs.space_description import (
    ComponentDescription,
    Kept,
    SiteDescription,
    SpaceDescription,
)
from search_spaces.models.identity import ModelIdentity

MLP = ComponentDescription(
    name="layers.3.mlp", kind="mlp", layer=3, units=64, unit="channels", features=1
)
SPACE = SpaceDescription(
    version=3,
    model=ModelIdentity(architecture="A", fingerprint="abc", params=10),
    components=(MLP,),
    sites=(
        SiteDescription(
            name="layers.3.mlp",
            dimension="units",
            targets=("layers.3.mlp",),
            levels=((Kept(units=0),), (Kept(units=16),), (Kept(units=64),)),
            costs={"params": (4.0, 6.0, 10.0)},
        ),
        SiteDescription(
            name="layers.3.mlp.weights",
            dimension="pattern",
            targets=("layers.3.mlp",),
            levels=((Kept(units=64, options={"pattern": "2:4"}),), (Kept(units=64),)),
            costs={"params": (10.0, 10.0)},
        ),
    ),
    dense_costs={"params": 10.0},
)


def test_a_plan_is_shown_layer_by_layer() -> None:
    (row,) = layer_frame(SPACE, (1, 0)).to_dict(orient="records")
    assert row == {
        "layer": 3,
        "component": "mlp",
        "kept": 16,
        "of": 64,
        "unit": "channels",
        "share": 0.25,
        "options": "pattern 2:4",
    }


def test_what_is_dropped_has_no_options() -> None:
    (row,) = layer_frame(SPACE, (0, 0)).to_dict(orient="records")
    assert (row["kept"], row["share"], row["options"]) == (0, 0.0, "")
