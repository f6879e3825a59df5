"""A space keeps to what a target holds: levels left out, choices shared, layers dropped whole."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.build import build_space, lay_out_options, unit_levels
from search_spaces.space.choices import Choices
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.space import SearchSpace
from search_spaces.space.sparsity import SparsityPattern, sparsity_patterns
from search_spaces.structure import Component
from search_spaces.structure.components import ComponentKind
from search_spaces.structure.projections import Projections

IDENTITY = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
GROUPS, CHANNELS, LAYERS = 3, 16, 3
UNITS: dict[ComponentKind, int] = {"attention": GROUPS, "mlp": CHANNELS}
COMPONENTS: tuple[Component, ...] = tuple(
    Projections(kind=kind, layer=layer, unit_count=count, projections=(), module=kind)
    for layer in range(LAYERS)
    for kind, count in UNITS.items()
)
ATTENTIONS, MLPS = (0, 2, 4), (1, 3, 5)
ORDERS = [np.random.default_rng(i).permutation(b.unit_count) for i, b in enumerate(COMPONENTS)]
ALIKE = Holds(
    equal={"attention": frozenset({"units"}), "mlp": frozenset({"units", "pattern"})},
    whole_layers=True,
)


def space(words: str, holds: Holds, components: tuple[Component, ...] = COMPONENTS) -> SearchSpace:
    choices = Choices.parse(words)
    return build_space(
        IDENTITY,
        components,
        ORDERS,
        choices=choices,
        mlp_step=4,
        patterns=sparsity_patterns(choices, 45),
        weights_digest="any" if choices.sparse else "",
        holds=holds,
    )


NATIVE = space("heads,channels,drops", ALIKE)
SPARSE = space("heads,channels,drops,sparsity", ALIKE)
TIED = space("heads,channels,drops", replace(ALIKE, whole_layers=False))
WHOLE = space("heads,channels,drops", Holds(whole_layers=True))
SPACES = {"native": NATIVE, "sparse": SPARSE, "tied": TIED, "whole": WHOLE}


def genome_of(searched: SearchSpace) -> st.SearchStrategy[NDArray[np.int_]]:
    levels = st.tuples(*(st.integers(0, int(top)) for top in searched.top_levels))
    return levels.map(np.array)


def any_genome() -> st.SearchStrategy[tuple[str, NDArray[np.int_]]]:
    return st.sampled_from(list(SPACES)).flatmap(
        lambda name: st.tuples(st.just(name), genome_of(SPACES[name]))
    )


def test_layers_are_dropped_whole_and_their_widths_are_shared() -> None:
    names = [site.name for site in NATIVE.sites]
    assert names == ["layers.0", "layers.1", "layers.2", "attention", "mlp"]
    assert [site.targets for site in NATIVE.sites[3:]] == [ATTENTIONS, MLPS]
    assert NATIVE.sites[0].levels == ((0, 0), (GROUPS, CHANNELS))
    assert NATIVE.sites[3].levels == tuple((count,) * 3 for count in (1, 2, 3))
    assert NATIVE.sites[4].levels == tuple((count,) * 3 for count in (4, 8, 12, 16))
    assert NATIVE.shared_sites == (3, 4)


def test_what_is_dropped_stays_so_however_wide_its_kind_is() -> None:
    genome = np.array([1, 0, 1, 1, 2])  # layer 1 is dropped; two groups, 12 channels
    units = NATIVE.tables.units(NATIVE.configurations(genome[None])[0])
    assert units.tolist() == [2, 12, 0, 0, 2, 12]


def test_without_whole_layers_each_component_is_dropped_by_itself() -> None:
    assert [site.name for site in TIED.sites] == [
        *(component.name for component in COMPONENTS),
        "attention",
        "mlp",
    ]
    assert TIED.sites[1].levels == ((0,), (CHANNELS,))
    genome = np.array([1, 0, 0, 1, 1, 1, 2, 0])
    units = TIED.tables.units(TIED.configurations(genome[None])[0])
    assert units.tolist() == [3, 0, 0, 4, 3, 4]


def test_widths_are_free_where_only_layers_are_whole() -> None:
    assert [site.name for site in WHOLE.sites[:3]] == [
        "layers.0",
        "layers.0.attention",
        "layers.0.mlp",
    ]
    assert WHOLE.sites[2].levels == ((4,), (8,), (12,), (16,))
    assert WHOLE.shared_sites == ()
    assert tuple(WHOLE.groups) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))


def test_options_are_shared_like_widths() -> None:
    names = [site.name for site in SPARSE.sites]
    assert names[-3:] == ["attention", "mlp", "mlp.weights"]
    assert "layers.0.attention.weights" in names  # which the target leaves free
    assert "layers.0.mlp.weights" not in names
    genome = SPARSE.top_levels
    genome[[1, -1]] = 0  # the pattern of layer 0's attention, and of all MLPs
    plan = SPARSE.plan(genome)
    patterns = [plan.sites[component.name].pattern for component in COMPONENTS]
    assert patterns == ["90%", "90%", "", "90%", "", "90%"]


def test_a_group_of_costs_is_a_layer_with_the_width_of_one_kind() -> None:
    assert NATIVE.groups == {
        (layer, shared): (2 * layer + offset,)
        for layer in range(LAYERS)
        for offset, shared in enumerate((3, 4))
    }
    without_drops = space("heads,channels", ALIKE)
    assert without_drops.groups == {(0,): ATTENTIONS, (1,): MLPS}


@given(any_genome())
def test_plans_come_back_as_a_genome_of_the_same_plan(
    drawn: tuple[str, NDArray[np.int_]],
) -> None:
    searched = SPACES[drawn[0]]
    genome = searched.repaired(drawn[1][None])[0]
    plan = searched.plan(genome)
    again = searched.genome(plan)
    assert searched.plan(again).plan_id == plan.plan_id
    assert (searched.configurations(again[None]) == searched.configurations(genome[None])).all()


@given(any_genome())
def test_all_that_is_kept_is_alike_and_layers_are_whole(
    drawn: tuple[str, NDArray[np.int_]],
) -> None:
    name, genome = drawn
    searched = SPACES[name]
    units = searched.tables.units(searched.configurations(genome[None])[0])
    if name != "whole":
        assert len(set(units[list(ATTENTIONS)]) - {0}) <= 1
        assert len(set(units[list(MLPS)]) - {0}) <= 1
    if name != "tied":
        assert ((units[list(ATTENTIONS)] > 0) == (units[list(MLPS)] > 0)).all()


@pytest.mark.parametrize("name", SPACES)
def test_a_plan_without_attention_gets_its_first_layer_back(name: str) -> None:
    searched = SPACES[name]
    smallest = searched.smallest()
    units = searched.tables.units(searched.configurations(smallest[None])[0])
    assert units[0] > 0
    assert (units[1] > 0) == (name != "tied")
    assert (units[2:] == 0).all()


def test_levels_and_options_that_are_refused_are_left_out() -> None:
    half = SparsityPattern(percent=45)

    def refuses(component: Component, units: int, options: BlockOptions) -> str:
        if component.kind == "mlp" and units % 8:
            return "odd"
        if component.layer == 0 and not units:
            return "the first layer must stay"
        return "no" if options.pattern == half else ""

    holds = Holds(refuses=refuses)
    choices = Choices.parse("heads,channels,drops,sparsity")
    levels = [unit_levels(component, choices, 4, holds) for component in COMPONENTS]
    assert levels[:4] == [(1, 2, 3), (8, 16), (0, 1, 2, 3), (0, 8, 16)]
    patterns = sparsity_patterns(choices, 45)
    assert half in patterns
    options = lay_out_options(COMPONENTS, choices, patterns, 4, holds)
    assert {each.pattern for of_one in options for each in of_one} == {*patterns} - {half}
    searched = space("heads,channels,drops,sparsity", holds)
    assert len(searched.sites[1].levels) == 2


def test_what_all_layers_offer_is_shared_and_no_more() -> None:
    def refuses(component: Component, units: int, _options: BlockOptions) -> str:
        return "odd" if component.name == "layers.1.mlp" and units == 8 else ""

    searched = space("channels", replace(ALIKE, refuses=refuses))
    assert searched.sites[0].levels == ((4, 4, 4), (12, 12, 12), (16, 16, 16))


@pytest.mark.parametrize("words", ["layers", "drops"])
def test_a_layer_of_which_anything_must_stay_is_not_dropped(words: str) -> None:
    def refuses(component: Component, units: int, _options: BlockOptions) -> str:
        return "" if units or component.name != "layers.0.mlp" else "it must stay"

    searched = space(words, replace(ALIKE, refuses=refuses))
    assert [site.name for site in searched.sites] == ["layers.1", "layers.2"]


def test_a_kind_of_one_component_shares_nothing() -> None:
    searched = space("heads,channels", ALIKE, COMPONENTS[:2])
    assert [site.name for site in searched.sites] == ["layers.0.attention", "layers.0.mlp"]
    assert searched.shared_sites == ()


def test_whole_layers_take_the_place_of_drops() -> None:
    assert [s.name for s in space("drops", ALIKE).sites] == ["layers.0", "layers.1", "layers.2"]
    assert space("layers", ALIKE).sites == space("layers", HOLDS_ALL).sites
    assert [s.name for s in space("heads", ALIKE).sites] == ["attention"]


@pytest.mark.parametrize(
    ("searched", "kept", "site"),
    [
        (NATIVE, {"layers.1.attention": 1}, "layers.1"),  # unlike the others
        (NATIVE, {"layers.1.mlp": 0}, "layers.1"),  # half a layer
        (space("heads,channels", ALIKE), {"layers.1.attention": 1}, "layers.1.attention"),
    ],
)
def test_a_plan_that_the_target_does_not_hold_is_none_of_the_space(
    searched: SearchSpace, kept: dict[str, int], site: str
) -> None:
    plan = searched.plan(searched.top_levels)
    sites = dict(plan.sites)
    for name, count in kept.items():
        position = [component.name for component in COMPONENTS].index(name)
        width = COMPONENTS[position].unit_count
        sites[name] = ComponentPlan.of(ORDERS[position][:count], width)
    with pytest.raises(PlanError, match=f"`{site}` keeps .* none of its levels"):
        searched.genome(plan.model_copy(update={"sites": sites}))
