"""Genomes become kept units and plans, and come back."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.space import SearchSpace
from search_spaces.space.sparsity import sparsity_patterns
from search_spaces.structure import Component
from search_spaces.structure.projections import Projections

IDENTITY = ModelIdentity(architecture="Toy", fingerprint="cafe", params=10)
GROUPS, CHANNELS, LAYERS = 3, 20, 3


def component(kind: str, layer: int) -> Component:
    return Projections(
        kind="attention" if kind == "attention" else "mlp",
        layer=layer,
        unit_count=GROUPS if kind == "attention" else CHANNELS,
        projections=(),
        module=kind,
    )


COMPONENTS = tuple(
    component(kind, layer) for layer in range(LAYERS) for kind in ("attention", "mlp")
)
ORDERS = [np.random.default_rng(i).permutation(b.unit_count) for i, b in enumerate(COMPONENTS)]


def space(words: str, mlp_step: int | None = 8, weights_digest: str = "") -> SearchSpace:
    choices = Choices.parse(words)
    return build_space(
        IDENTITY,
        COMPONENTS,
        ORDERS,
        choices=choices,
        mlp_step=mlp_step,
        patterns=sparsity_patterns(choices, 30),
        weights_digest=weights_digest,
    )


JOINT, LAYERWISE = space("heads,channels,drops"), space("layers")
SPARSE = space("heads,channels,drops,sparsity,2:4", weights_digest="sparsegpt@cafe")


def genomes_of(searched: SearchSpace) -> st.SearchStrategy[NDArray[np.int_]]:
    levels = st.tuples(*(st.integers(0, int(top)) for top in searched.top_levels))
    return levels.map(np.array)


def test_the_joint_space_has_a_site_for_each_component() -> None:
    assert [site.name for site in JOINT.sites] == [b.name for b in COMPONENTS]
    assert [site.targets for site in JOINT.sites] == [(i,) for i in range(6)]
    assert JOINT.sites[0].levels == ((0,), (1,), (2,), (3,))
    assert JOINT.sites[1].levels == ((0,), (8,), (16,), (20,))
    assert JOINT.top_levels.tolist() == [3] * 6


def test_the_step_of_channels_is_chosen_where_none_is_given() -> None:
    # 2 is the largest power of two that divides 20 and leaves eight levels
    assert space("heads,channels,drops", None).sites[1].levels == tuple(
        (i,) for i in range(0, 21, 2)
    )


def test_the_space_of_layers_has_a_site_for_each_layer() -> None:
    assert [site.name for site in LAYERWISE.sites] == ["layers.0", "layers.1", "layers.2"]
    assert [site.targets for site in LAYERWISE.sites] == [(0, 1), (2, 3), (4, 5)]
    assert LAYERWISE.sites[0].levels == ((0, 0), (3, 20))
    assert LAYERWISE.top_levels.tolist() == [1, 1, 1]


def test_genomes_become_kept_units() -> None:
    genomes = np.array([[3, 3, 0, 1, 2, 2], [0, 0, 1, 0, 3, 3]])
    assert JOINT.configurations(genomes).tolist() == [[3, 20, 0, 8, 2, 16], [0, 0, 1, 0, 3, 20]]
    assert LAYERWISE.configurations(np.array([[1, 0, 1]])).tolist() == [[3, 20, 0, 0, 3, 20]]


def test_a_plan_names_the_most_important_units() -> None:
    plan = JOINT.plan(np.array([2, 1, 0, 0, 3, 3]))
    assert plan.model == IDENTITY
    assert plan.sites["layers.0.attention"].units.tolist() == sorted(ORDERS[0][:2].tolist())
    assert plan.sites["layers.0.mlp"].units.tolist() == sorted(ORDERS[1][:8].tolist())
    assert plan.sites["layers.1.attention"].kept == ""
    assert plan.sites["layers.2.mlp"].kept == "0-19"
    assert [kept.unit_count for kept in plan.sites.values()] == [3, 20] * 3


@given(genomes_of(JOINT))
def test_every_joint_genome_survives_its_plan(genome: NDArray[np.int_]) -> None:
    assert JOINT.genome(JOINT.plan(genome)).tolist() == genome.tolist()


@given(genomes_of(LAYERWISE))
def test_every_genome_of_layers_survives_its_plan(genome: NDArray[np.int_]) -> None:
    assert LAYERWISE.genome(LAYERWISE.plan(genome)).tolist() == genome.tolist()


@given(genomes_of(LAYERWISE))
def test_a_plan_of_layers_is_one_of_the_joint_space(genome: NDArray[np.int_]) -> None:
    joint = JOINT.genome(LAYERWISE.plan(genome))
    assert joint.tolist() == np.repeat(genome * 3, 2).tolist()


@given(st.lists(genomes_of(JOINT), min_size=1, max_size=4))
def test_repaired_genomes_keep_some_attention(genomes: list[NDArray[np.int_]]) -> None:
    stacked = np.array(genomes)
    before = stacked.copy()
    repaired = JOINT.repaired(stacked)
    assert (stacked == before).all()
    for old, new in zip(before, repaired, strict=True):
        expected = old.copy()
        if not old[0::2].any():
            expected[0] = 1
        assert new.tolist() == expected.tolist()


def test_repaired_genomes_of_layers_keep_the_first_layer() -> None:
    genomes = np.array([[0, 0, 0], [0, 1, 0]])
    assert LAYERWISE.repaired(genomes).tolist() == [[1, 0, 0], [0, 1, 0]]


def space_of(*components: Component) -> SearchSpace:
    orders = [np.arange(component.unit_count) for component in components]
    return build_space(IDENTITY, components, orders, choices=Choices.parse("drops"))


def test_the_first_attention_is_kept_wherever_it_is() -> None:
    space = space_of(component("mlp", 0), component("attention", 2), component("attention", 3))
    assert [site.name for site in space.sites] == [
        "layers.0.mlp",
        "layers.2.attention",
        "layers.3.attention",
    ]
    assert space.smallest().tolist() == [0, 1, 0]
    assert [len(units) for units in space.plan(space.smallest()).kept_units(space.components)] == [
        0,
        GROUPS,
        0,
    ]


def test_of_a_model_without_attention_everything_may_be_dropped() -> None:
    space = space_of(component("mlp", 0), component("mlp", 1))
    assert space.smallest().tolist() == [0, 0]
    kept = space.plan(space.smallest()).kept_units(space.components)
    assert [len(units) for units in kept] == [0, 0]


def test_the_smallest_genome_keeps_one_group() -> None:
    assert JOINT.smallest().tolist() == [1, 0, 0, 0, 0, 0]
    assert LAYERWISE.smallest().tolist() == [1, 0, 0]


def test_a_plan_of_another_model_is_refused() -> None:
    plan = JOINT.plan(JOINT.top_levels)
    foreign = replace(JOINT, identity=IDENTITY.model_copy(update={"fingerprint": "f00d"}))
    with pytest.raises(PlanError, match="fits only the model it was made for"):
        foreign.genome(plan)


def test_a_plan_that_keeps_other_units_is_refused() -> None:
    plan = JOINT.plan(np.array([1, 1, 1, 1, 1, 1]))
    worst = ComponentPlan.of(ORDERS[1][-8:], CHANNELS)
    other = plan.model_copy(update={"sites": {**plan.sites, "layers.0.mlp": worst}})
    with pytest.raises(PlanError, match=r"most important units of `layers\.0\.mlp`"):
        JOINT.genome(other)


def test_a_plan_without_a_site_is_refused() -> None:
    plan = JOINT.plan(JOINT.top_levels)
    sites = {name: kept for name, kept in plan.sites.items() if name != "layers.2.attention"}
    with pytest.raises(PlanError, match=r"`layers\.2\.attention`"):
        JOINT.genome(plan.model_copy(update={"sites": sites}))


def test_a_plan_between_levels_is_refused() -> None:
    plan = space("heads,channels,drops", 4).plan(np.array([3, 1, 3, 5, 3, 5]))
    with pytest.raises(PlanError, match=r"`layers\.0\.mlp` keeps 4 units"):
        JOINT.genome(plan)
    with pytest.raises(PlanError, match=r"`layers\.0` keeps 3 and 4 units"):
        LAYERWISE.genome(plan)


def test_a_sparse_space_has_two_sites_for_each_component() -> None:
    assert [site.name for site in SPARSE.sites[:4]] == [
        "layers.0.attention",
        "layers.0.attention.weights",
        "layers.0.mlp",
        "layers.0.mlp.weights",
    ]
    assert [str(options.pattern) for options in SPARSE.block_options[0]] == [
        "0%",
        "30%",
        "2:4",
        "60%",
        "90%",
    ]
    assert SPARSE.top_levels.tolist() == [3, 4] * 6
    assert tuple(SPARSE.groups) == tuple((i, i + 1) for i in range(0, 12, 2))


def test_without_units_to_prune_there_are_sites_of_weights_alone() -> None:
    alone = space("2:4")
    assert [site.name for site in alone.sites] == [
        f"{component.name}.weights" for component in COMPONENTS
    ]
    assert tuple(alone.groups) == tuple((i,) for i in range(6))
    assert alone.configurations(np.zeros((1, 6), dtype=np.int_)).tolist() == [
        [7, 41, 7, 41, 7, 41]
    ]


def test_sites_that_share_a_component_are_one_group() -> None:
    layers = space("layers,2:4")
    assert [site.targets for site in layers.sites[:3]] == [(0, 1), (0,), (1,)]
    assert tuple(layers.groups) == ((0, 1, 2), (3, 4, 5), (6, 7, 8))
    # by targets, wherever the sites stand: a site may join groups that began apart
    mixed = replace(layers, sites=tuple(layers.sites[i] for i in (1, 3, 2, 4, 0)))
    assert tuple(mixed.groups) == ((0, 2, 4), (1, 3))
    assert tuple(JOINT.groups) == tuple((i,) for i in range(6))


def test_heads_without_drops_keep_a_group() -> None:
    heads = space("heads")
    assert [site.name for site in heads.sites] == [
        b.name for b in COMPONENTS if b.kind == "attention"
    ]
    assert heads.sites[0].levels == ((1,), (2,), (3,))


def test_configurations_hold_counts_and_patterns() -> None:
    genome = np.array([2, 0, 1, 4, 0, 1, 3, 2, 3, 3, 3, 4])
    configurations = SPARSE.configurations(genome[None])[0]
    assert SPARSE.tables.units(configurations).tolist() == [2, 8, 0, 20, 3, 20]
    # a dropped component has no pattern, so that it is one candidate and not five
    assert SPARSE.tables.options_index(configurations).tolist() == [4, 0, 0, 2, 1, 0]
    assert configurations[2] == 0


@given(genomes_of(SPARSE))
def test_every_sparse_genome_survives_its_plan(genome: NDArray[np.int_]) -> None:
    plan = SPARSE.plan(genome)
    back = SPARSE.genome(plan)
    assert (
        SPARSE.configurations(back[None]).tolist() == SPARSE.configurations(genome[None]).tolist()
    )
    assert SPARSE.plan(back).plan_id == plan.plan_id


def test_a_plan_says_how_sparse_it_is_and_who_made_its_weights() -> None:
    genome = SPARSE.top_levels
    dense = SPARSE.plan(genome)
    assert dense.weights_digest == ""
    assert dense.plan_id == JOINT.plan(JOINT.top_levels).plan_id
    genome[1] = 2
    plan = SPARSE.plan(genome)
    assert plan.sites["layers.0.attention"].pattern == "2:4"
    assert plan.sites["layers.0.mlp"].pattern == ""
    assert plan.weights_digest == "sparsegpt@cafe"
    assert (
        len(
            {plan.plan_id, dense.plan_id, replace(SPARSE, weights_digest="x").plan(genome).plan_id}
        )
        == 3
    )


def test_a_plan_of_other_weights_or_patterns_is_refused() -> None:
    genome = SPARSE.top_levels
    genome[1] = 1
    plan = SPARSE.plan(genome)
    with pytest.raises(PlanError, match="made as this run makes them"):
        replace(SPARSE, weights_digest="wanda@cafe").genome(plan)
    other = space("heads,channels,drops,4:8", weights_digest="sparsegpt@cafe")
    with pytest.raises(PlanError, match=r"`layers\.0\.attention` is 60%"):
        other.genome(plan)
