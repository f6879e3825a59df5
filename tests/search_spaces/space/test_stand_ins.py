"""Stand-ins as levels: which genome they are part of, what they come to, and back from a plan."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.levels import MOST_STOOD_IN, stand_in_reach, stood_in_for
from search_spaces.space.space import SearchSpace
from search_spaces.structure.components import Component
from tests.models.families import dense

COMPONENTS = dense("llama").components
"""Attention and MLP of six layers, all of which add what their projections give."""


def space_of(
    words: str = "heads,channels,drops,stand_ins",
    components: tuple[Component, ...] = COMPONENTS,
) -> SearchSpace:
    return build_space(
        ModelIdentity(architecture="Toy", fingerprint="cafe", params=10),
        components,
        [np.arange(component.unit_count) for component in components],
        choices=Choices.parse(words),
        mlp_step=16,
        weights_digest="obs+stand_ins@0",
    )


def lowered(space: SearchSpace, **levels: int) -> NDArray[np.int_]:
    """Return the dense genome with sites such as ``l2_mlp`` at other levels."""
    genome = space.top_levels.copy()
    names = [site.name for site in space.sites]
    for short, level in levels.items():
        layer, _, kind = short.removeprefix("l").partition("_")
        genome[names.index(f"layers.{layer}{'.' if kind else ''}{kind}")] = level
    return genome


def kept(space: SearchSpace, genome: NDArray[np.int_]) -> list[tuple[int, int]]:
    """Return the units and the stand-in of each component."""
    row = space.configurations(genome[None])[0]
    pairs = [table[int(one)] for table, one in zip(space.tables, row, strict=True)]
    return [(units, options.stand_in) for units, options in pairs]


def test_a_dropped_component_has_a_second_level_if_one_stands_before_it() -> None:
    sites = space_of().sites
    assert [site.stands_in for site in sites] == [False, *[True] * 11]
    assert sites[1].levels == ((0,), (0,), (16,), (32,), (48,))
    assert not any(site.stands_in for site in space_of("heads,channels,drops").sites)
    assert not any(site.stands_in for site in space_of("heads,channels,stand_ins").sites)


def test_a_run_is_stood_in_for_by_what_is_kept_before_it() -> None:
    space = space_of()
    found = kept(space, lowered(space, l1_attention=1, l1_mlp=1, l0_mlp=2, l4_mlp=1))
    assert found[:5] == [(2, 0), (16, 2), (0, 0), (0, 0), (2, 0)]
    assert found[8:] == [(2, 1), (0, 0), (2, 0), (48, 0)]


def test_nothing_stands_in_across_what_is_dropped_for_good() -> None:
    space = space_of()
    found = kept(space, lowered(space, l1_mlp=1, l1_attention=0))
    assert all(stand_in == 0 for _, stand_in in found)


def test_a_run_may_be_too_long_for_one_to_stand_in_for_all_of_it() -> None:
    asked = np.zeros(MOST_STOOD_IN + 3, dtype=np.bool_)
    asked[1:] = True
    assert stood_in_for(asked, ~asked).tolist() == [MOST_STOOD_IN, *[0] * (MOST_STOOD_IN + 2)]


def test_whole_layers_are_stood_in_for_too() -> None:
    space = space_of("layers,stand_ins")
    assert [site.stands_in for site in space.sites] == [False, *[True] * 5]
    found = kept(space, lowered(space, l3=1, l2=1))
    assert found[3] == (48, 4)
    assert found[4:8] == [(0, 0)] * 4


@pytest.mark.parametrize(
    "levels",
    [
        {"l1_attention": 1, "l1_mlp": 1, "l0_mlp": 2},
        {"l5_mlp": 1, "l5_attention": 1, "l3_mlp": 0},
        {"l2_mlp": 1, "l3_attention": 0, "l3_mlp": 2},
    ],
)
def test_a_plan_with_stand_ins_is_its_genome_again(levels: dict[str, int]) -> None:
    space = space_of()
    genome = lowered(space, **levels)
    plan = space.plan(genome)
    assert plan.weights_digest
    assert np.array_equal(space.genome(type(plan).model_validate_json(plan.to_json())), genome)
    plain = lowered(space, **{name: 0 if level == 1 else level for name, level in levels.items()})
    assert space.plan(plain).plan_id != plan.plan_id


def test_a_plan_of_another_space_is_refused() -> None:
    space = space_of()
    plan = space.plan(lowered(space, l1_mlp=1))
    with pytest.raises(PlanError, match="none of its levels"):
        space_of("heads,channels,drops").genome(plan)


def test_the_lowest_attention_that_must_stay_keeps_something() -> None:
    space = space_of("drops,stand_ins")
    genome = np.zeros((1, len(space.sites)), dtype=np.int_)
    genome[0, 1:] = 1
    found = kept(space, space.repaired(genome)[0])
    assert found[0] == (COMPONENTS[0].unit_count, MOST_STOOD_IN)
    no_first = tuple(each for each in COMPONENTS if each.name != "layers.0.attention")
    space = space_of("drops,stand_ins", no_first)
    repaired = space.repaired(np.zeros((1, len(space.sites)), dtype=np.int_))
    assert repaired.max() == 2  # its second level drops it too


def test_what_does_more_than_add_neither_stands_in_nor_is_stood_in_for() -> None:
    normed = tuple(replace(each, adds_output=each.name != "layers.2.mlp") for each in COMPONENTS)
    reach = stand_in_reach(normed)
    assert reach[:7] == (4, 3, 2, 1, 0, 0, 5)
    by_name = {site.name: site.stands_in for site in space_of(components=normed).sites}
    assert not by_name["layers.2.mlp"]
    assert not by_name["layers.3.attention"]
    assert by_name["layers.3.mlp"]
