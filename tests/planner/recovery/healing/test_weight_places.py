"""A cut layer's weights stand in the dense layer where their place says."""

from pathlib import Path
from typing import Any

import pytest
import torch

from planner.recovery.healing.weight_places import Place, places_of_layer
from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.recovery.prepared_plans import prepared_model, smaller_plan


def test_a_place_extracts_and_adds() -> None:
    large = torch.arange(24.0).view(4, 6)
    rows, columns = torch.tensor([3, 1]), torch.tensor([0, 5, 2])
    small = large[rows][:, columns]
    place = Place.of(small.double(), (4, 6))
    assert torch.equal(place.extract(large), small)
    total = torch.zeros(4, 6)
    place.add_(total, torch.ones(2, 3))
    place.add_(total, torch.ones(2, 3))
    expected = torch.zeros(4, 6)
    for row in rows:
        expected[row, columns] = 2.0
    assert torch.equal(total, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_place_along_one_axis_of_a_stack(axis: int) -> None:
    large = torch.randn(3, 4, 5)
    labels = torch.arange(60.0, dtype=torch.float64).view(3, 4, 5)
    positions = torch.tensor([2, 0])
    place = Place.of(labels.index_select(axis, positions), (3, 4, 5))
    small = place.extract(large)
    assert torch.equal(small, large.index_select(axis, positions))
    total = torch.zeros(3, 4, 5)
    place.add_(total, small)
    assert torch.equal(place.extract(total), small)
    assert float(total.sum()) == pytest.approx(float(small.sum()))


def test_the_whole_is_a_place() -> None:
    large = torch.randn(2, 3)
    place = Place.of(torch.arange(6.0, dtype=torch.float64).view(2, 3), (2, 3))
    assert place.kept == ()
    total = torch.zeros(2, 3)
    place.add_(total, large)
    assert torch.equal(total, large)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"compensate": "none"}),
        ("phi3", {"compensate": "none"}),
        ("gpt2", {"compensate": "none"}),
        ("llama", {"compensate": "none", "space": "heads,channels,drops,2:4"}),
        ("mixtral", {"compensate": "none", "space": "experts,channels,heads"}),
        ("mixtral", {"compensate": "none", "space": "experts,channels,2:4"}),
    ],
)
def test_a_cut_weight_is_the_dense_one_at_its_place(
    family: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = make_model({**FAMILIES, **MOE_FAMILIES}[family].config())
    before = dict(model.named_parameters())
    folder = save_model(model, tmp_path / "model")
    prepared = prepared_model(folder, tmp_path / "run", sparsifier="magnitude", **options)
    plan = smaller_plan(prepared)
    found = 0
    for index, path in enumerate(prepared.sorted_model.structure.backbone.layer_paths):
        places = places_of_layer(plan, index)
        for name, weight in plan.layer(index).named_parameters():
            expected = places[name].extract(before[f"{path}.{name}"])
            kept = weight != 0
            assert torch.equal(weight[kept], expected[kept])
            found += places[name] != Place()
    assert found > 0
