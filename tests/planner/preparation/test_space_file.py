"""What ``space.json`` says is what the space and the cost model say."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from evaluators.costs.cost_model import CostModel
from planner.preparation.space_file import describe_space
from planner.settings.search import LoadsIn
from planner.targets.loads_in import holds_in
from search_spaces.models.fingerprint import identify
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace
from search_spaces.space.sparsity import SparsityPattern, sparsity_patterns
from search_spaces.structure.model import ModelStructure
from tests.models.families import dense
from tests.models.moe_families import mixture

SPACES: list[tuple[str, str, LoadsIn]] = [
    ("llama", "heads,channels,drops", "any"),
    ("llama", "layers", "any"),
    ("llama", "drops,sparsity,2:4", "any"),
    ("qwen2-moe", "heads,channels,drops,experts,top_k,2:4", "any"),
    ("llama", "heads,channels,drops", "transformers-native"),
    ("qwen2-moe", "heads,channels,drops,experts,top_k,2:4", "transformers-native"),
]


def _made(
    name: str, words: str, loads_in: LoadsIn = "any"
) -> tuple[ModelStructure, SearchSpace, CostModel]:
    structure = dense(name) if name == "llama" else mixture(name)
    choices = Choices.parse(words)
    components = structure.components
    space = build_space(
        identify(structure.backbone.model),
        components,
        Orders(tuple(np.arange(component.member_count) for component in components)),
        choices=choices,
        patterns=sparsity_patterns(choices),
        holds=holds_in(loads_in, structure),
    )
    costs = CostModel(
        structure,
        stored=StoredFormat(dtype=torch.float32),
        context=8,
        block_options=space.block_options,
    )
    return structure, space, costs


@pytest.mark.parametrize(("name", "words", "loads_in"), SPACES)
def test_a_genome_keeps_what_the_space_says(name: str, words: str, loads_in: LoadsIn) -> None:
    _, space, costs = _made(name, words, loads_in)
    described = describe_space(space, costs)
    rng = np.random.default_rng(0)
    genomes = rng.integers(0, space.top_levels + 1, (30, len(space.sites)))
    genomes[0], genomes[1] = 0, space.top_levels  # what is dropped is repaired
    configurations = space.configurations(space.repaired(genomes))
    for genome, expected in zip(genomes, configurations, strict=True):
        kept = described.kept(genome.tolist())
        for position, component in enumerate(space.components):
            units, options = space.tables[position][expected[position]]
            assert kept[component.name].units == units
            if units:
                assert _options(kept[component.name].options) == options


def _options(described: Mapping[str, object]) -> BlockOptions:
    parsed = {
        name: SparsityPattern.parse(str(value)) if name == "pattern" else value
        for name, value in described.items()
    }
    return BlockOptions(**parsed)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(("name", "words", "loads_in"), SPACES)
def test_a_level_costs_what_the_cost_model_says(name: str, words: str, loads_in: LoadsIn) -> None:
    _, space, costs = _made(name, words, loads_in)
    described = describe_space(space, costs)
    assert described.dense_costs == costs.dense()
    for position, (site, found) in enumerate(zip(space.sites, described.sites, strict=True)):
        assert found.name == site.name
        for level in range(len(site.levels)):
            genome = space.top_levels.copy()
            genome[position] = level
            expected = costs.costs(space.configurations(genome[None]))
            of_level = {cost: values[level] for cost, values in found.costs.items()}
            assert of_level == {cost: float(values[0]) for cost, values in expected.items()}


def test_components_are_described_by_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    structure, space, costs = _made("qwen2-moe", "heads,channels,experts,top_k")
    config = structure.backbone.model.config
    monkeypatch.setattr("planner.preparation.space_file._MOST_GENOMES", 3)  # several at a time
    described = describe_space(space, costs)
    by_kind = {component.kind: component for component in described.components}
    attention, experts = by_kind["attention"], by_kind["experts"]
    assert (attention.unit, attention.units) == ("KV groups", config.num_key_value_heads)
    queries = config.num_attention_heads // config.num_key_value_heads
    head_dim = config.hidden_size // config.num_attention_heads
    assert attention.features == queries * head_dim
    assert (experts.unit, experts.units) == ("experts", config.num_experts)
    assert experts.features == experts.channels == config.moe_intermediate_size
    assert experts.top_k == config.num_experts_per_tok
    assert described.needed == tuple(
        component.name for component in space.components if component.kind == "attention"
    )
