"""Sites of experts: their levels, the way from genome to plan and back, and what is refused."""

from collections.abc import Mapping

import numpy as np
import pytest

from search_spaces.errors import PlanError
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.space.space import SearchSpace
from search_spaces.structure.model import ModelStructure
from tests.models.mixed_configurations import EVERYTHING, random_genomes, space_of
from tests.models.moe_families import CHANNELS, EACH_MOE_FAMILY, mixture


def _sites(space: SearchSpace, layer: int) -> Mapping[str, int]:
    prefix = f"layers.{layer}."
    return {
        site.name.removeprefix(prefix): site.top_level
        for site in space.sites
        if site.name.startswith(prefix)
    }


def test_every_choice_of_a_mixture_is_a_site() -> None:
    structure = mixture("qwen2-moe")
    assert _sites(space_of(structure), 3) == {
        "attention": 2,
        "experts": 7,  # 0, and from the two that run to all eight
        "experts.channels": 3,  # 4, 8, 12, 16
        "experts.top_k": 1,
        "shared": 6,  # 0, 4, ..., 24
    }
    assert _sites(space_of(structure, "experts"), 3) == {"experts": 6}
    assert _sites(space_of(structure, "drops"), 3) == {"attention": 1, "experts": 1, "shared": 1}
    whole = space_of(structure, "layers,top_k").sites
    assert [site.name for site in whole[-2:]] == ["layers.3", "layers.3.experts.top_k"]
    assert whole[-2].levels == ((0, 0, 0), (2, 8, 24))


def test_a_dense_layer_among_mixtures_has_its_own_sites() -> None:
    space = space_of(mixture("deepseek-v3"))
    assert set(_sites(space, 0)) == {"attention", "mlp"}
    assert _sites(space, 1)["experts"] == 3  # none, or two, three, four of each group


def test_a_number_that_the_code_fixes_is_no_site() -> None:
    assert "experts.top_k" not in _sites(space_of(mixture("phi-moe")), 3)


@pytest.mark.parametrize("name", EACH_MOE_FAMILY)
def test_genome_plan_file_and_back(name: str) -> None:
    space = space_of(mixture(name))
    genomes = random_genomes(space, 8, np.random.default_rng(2))
    for genome, configurations in zip(genomes, space.configurations(genomes), strict=True):
        plan = Plan.model_validate_json(space.plan(genome).to_json())
        assert (space.configurations_of(plan) == configurations).all()
        assert (space.configurations(space.genome(plan)[None])[0] == configurations).all()


def test_a_plan_names_the_kept_experts() -> None:
    structure = mixture("deepseek-v3")
    space = space_of(structure)
    genome = space.top_levels.copy()
    names = [site.name for site in space.sites]
    genome[names.index("layers.2.experts")] = 1  # two of each group of four
    genome[names.index("layers.2.experts.channels")] = 1  # eight of sixteen
    genome[names.index("layers.2.experts.top_k")] = 1  # two of three
    plan = space.plan(genome)
    kept = plan.sites["layers.2.experts"]
    assert (np.bincount(kept.units // 4) == 2).all()
    channels = kept.kept_channels(CHANNELS)
    assert channels is not None
    assert channels.shape == (8, 8)
    position = [component.name for component in space.components].index("layers.2.experts")
    own = np.sort(space.orders.channels[position][kept.units, :8], axis=1)
    assert np.array_equal(channels, own)
    assert kept.top_k == 2
    assert plan.sites["layers.1.experts"].top_k == 0


def test_the_dense_plan_holds_no_options() -> None:
    space = space_of(mixture("mixtral"))
    plan = space.plan(space.top_levels)
    assert plan.sites["layers.0.experts"] == ComponentPlan(unit_count=8, kept="0-7")
    assert (space.tables.units(space.configurations_of(plan)) > 0).all()


def _refused(structure: ModelStructure, kept: ComponentPlan, complaint: str) -> None:
    space = space_of(structure)
    plan = space.plan(space.top_levels)
    sites = {**plan.sites, "layers.3.experts": kept}
    with pytest.raises(PlanError, match=complaint):
        plan.model_copy(update={"sites": sites}).kept_units(structure.components)


@pytest.mark.parametrize(
    ("family", "kept", "complaint"),
    [
        (
            "mixtral",
            ComponentPlan(unit_count=8, kept="3"),
            r"as run for a token, 2, got 1; keep more",
        ),
        ("mixtral", ComponentPlan(unit_count=8, kept="0-7", top_k=3), r"run from 1 to 2 .* got 3"),
        (
            "phi-moe",
            ComponentPlan(unit_count=8, kept="0-7", top_k=1),
            r"its code fixes that number, got 1",
        ),
        (
            "deepseek-v3",
            ComponentPlan(unit_count=16, kept="0-4"),
            r"of each of its 4 groups, got 4, 1",
        ),
        (
            "deepseek-v3",
            ComponentPlan(unit_count=16, kept="0,4,8,12"),
            r"needs at least 2 experts of each",
        ),
        (
            "deepseek-v3",
            ComponentPlan(unit_count=16, kept="0,4,8,12", top_k=1),
            r"needs at least 2 experts of each of its 4 groups, got 1; keep more of each",
        ),
    ],
)
def test_what_a_router_cannot_choose_from_is_refused(
    family: str, kept: ComponentPlan, complaint: str
) -> None:
    _refused(mixture(family), kept, complaint)


def test_fewer_experts_are_fine_where_fewer_run() -> None:
    structure = mixture("mixtral")
    space = space_of(structure)
    plan = space.plan(space.top_levels)
    sites = {**plan.sites, "layers.3.experts": ComponentPlan(unit_count=8, kept="3", top_k=1)}
    units = plan.model_copy(update={"sites": sites}).kept_units(structure.components)
    assert units[-1].tolist() == [3]


def test_channels_of_pruned_experts_are_refused() -> None:
    kept = ComponentPlan(unit_count=8, kept="0-1", channels="0-3,32-35")
    with pytest.raises(PlanError, match="as many channels of each kept expert and none of others"):
        kept.kept_channels(CHANNELS)


def test_an_mlp_has_no_experts_to_prune() -> None:
    structure = mixture("deepseek-v3")
    space = space_of(structure)
    plan = space.plan(space.top_levels)
    sites = {**plan.sites, "layers.0.mlp": ComponentPlan(unit_count=48, kept="0-47", top_k=1)}
    with pytest.raises(PlanError, match=r"`layers\.0\.mlp` has none"):
        plan.model_copy(update={"sites": sites}).kept_units(structure.components)


def test_each_site_chooses_along_one_dimension() -> None:
    assert {site.dimension for site in space_of(mixture("mixtral"), EVERYTHING).sites} == {
        "units",
        "channels",
        "top_k",
    }
