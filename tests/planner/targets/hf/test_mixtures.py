"""Mixtures of experts are exported with counts, widths and numbers of their own in each layer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import one_hot
from transformers import PreTrainedTokenizerBase

from planner.export.cards.manifest import Manifest
from planner.export.reference import logits_of as scored
from planner.export.run_exports import export_from_model
from planner.settings.search import SearchSettings
from planner.targets.hf.loaded_folder import load_export
from planner.targets.hf.model_folder import cut_model, write_model
from search_spaces.models.fingerprint import identify, lasting
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.models.stored import StoredFormat
from search_spaces.pruned_weights.types import LinearWeights, OrderedWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_orders
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture, mixtures_of
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens
from tests.models.factory import twin, write_tokenizer
from tests.models.moe_families import MOE_FAMILIES, MoeFamily, mixture, moe_family_params
from tests.models.parts import experts_in
from tests.planner.export.exports import (
    Exported,
    assert_close,
    assert_same_logits,
    export_plan,
    logits_of,
)


@pytest.fixture(
    params=[moe_family_params(family, name=name) for name, family in MOE_FAMILIES.items()],
    scope="module",
)
def moe_family(request: pytest.FixtureRequest) -> MoeFamily:
    chosen = request.param
    assert isinstance(chosen, MoeFamily)
    return chosen


@pytest.fixture(scope="module")
def biased(moe_family: MoeFamily) -> ModelStructure:
    """A mixture whose router's buffers are no zeros; no test may change it."""
    structure = twin(mixture(moe_family.name))
    generator = torch.Generator().manual_seed(1)
    for buffer in lasting(structure.backbone.model).values():
        if not isinstance(buffer, torch.nn.Parameter):
            buffer.copy_(torch.rand(buffer.shape, generator=generator))
    return structure


@pytest.fixture(scope="module")
def loaded(biased: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    model = biased.backbone.model
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(model),
    )


def kept_of(
    component: Component, units: int, *, channels: int = 0, top_k: int = 0, seed: int = 0
) -> ComponentPlan:
    """Keep units drawn at random, and of experts channels drawn at random for each."""
    rng = np.random.default_rng([seed, component.layer])
    first = np.arange(component.group_count)[:, None] * component.unit_count
    drawn = [np.sort(rng.permutation(component.unit_count)[:units]) for _ in first]
    members = (first + np.array(drawn)).ravel()
    kept = ComponentPlan.of(members, component.member_count)
    if not isinstance(component, Mixture) or not units:
        return kept
    whole = component.channel_count
    own = [np.sort(rng.permutation(whole)[:channels]) for _ in members]
    flat = (members[:, None] * whole + np.array(own)).ravel() if channels else members[:0]
    text = ComponentPlan.of(flat.astype(np.int_), component.member_count * whole).kept
    return kept.model_copy(update={"channels": text, "top_k": top_k})


def irregular(structure: ModelStructure) -> Plan:
    """Keep other experts, channels and numbers that run in each layer, and drop components."""
    sites: dict[str, ComponentPlan] = {}
    for index, layer in enumerate(structure.layers):
        for component in layer.components:
            whole = component.unit_count
            if not isinstance(component, Mixture):
                half = max(1, whole // 2)
                units = {0: whole, 1: half, 2: 0, 3: whole}[index]
                if component.kind != "attention" and index == 2:
                    units = half
                sites[component.name] = kept_of(component, units)
                continue
            varies, lowest = component.top_k_attributes, component.lowest
            units, channels, top_k = {
                0: (whole, 8, 0),
                1: (lowest, 0, 1 if varies else 0),
                2: (max(lowest, whole - 1), 4, component.top_k - 1 if varies else 0),
                3: (0, 0, 0),
            }[index]
            sites[component.name] = kept_of(component, units, channels=channels, top_k=top_k)
    return Plan(model=identify(structure.backbone.model), sites=sites)


def uniform(structure: ModelStructure) -> Plan:
    """Keep the same number of experts and channels everywhere, and drop layer 2."""
    sites: dict[str, ComponentPlan] = {}
    for index, layer in enumerate(structure.layers):
        for component in layer.components:
            whole = 0 if index == 2 else component.unit_count
            if not isinstance(component, Mixture) or not whole:
                # of the shared expert as much as the channels of the others say, where they do
                ratio = 2 if component.kind == "shared" and component.unit_count == 32 else 1
                sites[component.name] = kept_of(component, whole // ratio)
                continue
            top_k = component.top_k - 1 if component.top_k_attributes else 0
            units = max(component.lowest, whole // 2)
            sites[component.name] = kept_of(component, units, channels=8, top_k=top_k)
    return Plan(model=identify(structure.backbone.model), sites=sites)


@pytest.fixture(scope="module")
def exported(
    loaded: LoadedModel, biased: ModelStructure, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    folder = tmp_path_factory.mktemp("mixtures") / "irregular"
    return export_plan(loaded, biased, irregular(biased), folder)


def test_an_irregular_plan_computes_what_was_scored(exported: Exported) -> None:
    assert not exported.cut.is_stock
    assert_same_logits(exported.model, exported)


def test_generation_is_the_same_with_and_without_a_cache(exported: Exported) -> None:
    prompt = exported.tokens[:1]
    outputs = [
        exported.model.generate(
            prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    assert torch.equal(*outputs)


def naive_router_loss(logits: torch.Tensor, top_k: int) -> torch.Tensor:
    """Give experts × Σ (share of the tokens that take an expert × its mean probability)."""
    probabilities, count = logits.softmax(dim=-1), logits.shape[-1]
    chosen = probabilities.topk(min(top_k, count), dim=-1).indices
    share = one_hot(chosen, count).float().sum(dim=1).mean(dim=0)
    return count * (share * probabilities.mean(dim=0)).sum()


def test_router_logits_and_their_loss_are_given(exported: Exported) -> None:
    model, tokens = exported.model, exported.tokens
    with torch.inference_mode():
        output = model(tokens, labels=tokens, output_router_logits=True)
        plain = model(tokens, labels=tokens)
    assert [logits.shape[-1] for logits in output.router_logits] == [
        len(exported.plan.sites[experts.name].units)
        for layer in exported.structure.layers[:3]
        for experts in mixtures_of(layer.components)
    ]
    if getattr(output, "aux_loss", None) is None:  # the family has no such loss
        return
    losses = [
        naive_router_loss(logits, model.num_experts_per_tok) for logits in output.router_logits
    ]
    torch.testing.assert_close(output.aux_loss, torch.stack(losses).mean())
    weighted = plain.loss + model.router_aux_loss_coef * output.aux_loss
    torch.testing.assert_close(output.loss, weighted)


def test_entries_say_what_each_layer_keeps(exported: Exported) -> None:
    config = json.loads((exported.folder / "config.json").read_text(encoding="utf-8"))
    assert len(config["sublayers"]) == 3  # layer 2 has no attention
    found: dict[int, dict[str, int]] = {}
    for entries, sources in zip(config["sublayers"], config["sources"], strict=True):
        assert len(entries) == len(sources)
        found |= {
            source: entry
            for entry, source in zip(entries, sources, strict=True)
            if isinstance(entry, dict)
        }
    for index, layer in enumerate(exported.structure.layers):
        component = experts_in(layer)
        if component is None or index == 3:
            continue
        kept = exported.plan.sites[component.name]
        thinned = exported.plan.expert_pruning(component)
        assert isinstance(component, Mixture)
        channels = thinned.channels
        assert found[index]["experts"] == len(kept.units)
        assert found[index]["top_k"] == (kept.top_k or component.top_k)
        assert found[index]["channels"] == (16 if channels is None else channels.shape[1])


def test_a_uniform_plan_loads_without_our_code(
    loaded: LoadedModel, biased: ModelStructure, tmp_path: Path
) -> None:
    exported = export_plan(loaded, biased, uniform(biased), tmp_path / "uniform")
    assert exported.cut.is_stock
    assert type(exported.model) is type(biased.backbone.model)
    assert_same_logits(exported.model, exported)
    # as the family's own checkpoints are
    exported.model.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    stored = load_file(exported.folder / "model.safetensors")
    assert stored.keys() == again.keys()
    assert {n: w.shape for n, w in stored.items()} == {n: w.shape for n, w in again.items()}
    reopened = load_model(str(exported.folder), offload="always")
    assert_close(logits_of(reopened.model, exported.tokens), exported.expected)


def varied(structure: ModelStructure) -> Plan:
    """Keep other numbers of experts in each layer, and drop nothing."""
    sites: dict[str, ComponentPlan] = {}
    for index, layer in enumerate(structure.layers):
        for component in layer.components:
            units = component.unit_count
            if isinstance(component, Mixture):
                units = max(component.lowest, units - index % 2)
            sites[component.name] = kept_of(component, units)
    return Plan(model=identify(structure.backbone.model), sites=sites)


def test_counts_of_their_own_need_our_code(
    loaded: LoadedModel, biased: ModelStructure, tmp_path: Path
) -> None:
    plan = varied(biased)
    counts = {len(plan.sites[each.name].units) for each in mixtures_of(biased.components)}
    exported = export_plan(loaded, biased, plan, tmp_path / "varied")
    assert exported.cut.is_stock is (len(counts) == 1)
    assert_same_logits(exported.model, exported)


@pytest.mark.parametrize(("name", "make"), [("deepseek-v3", irregular), ("mixtral", uniform)])
def test_an_export_of_a_mixture_is_proved_and_costs_what_was_promised(
    name: str, make: Callable[[ModelStructure], Plan], tmp_path: Path
) -> None:
    structure = twin(mixture(name))
    model: Any = structure.backbone.model
    # half as wide as the router's buffer, which keeps its precision
    model.to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    write_tokenizer(tmp_path / "dense")
    settings = SearchSettings(model=str(tmp_path / "dense"))
    path = tmp_path / "plan.json"
    path.write_text(make(structure).to_json(), encoding="utf-8")
    out = export_from_model(settings, path, tmp_path / "export")
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.needs_remote_code is (make is irregular)
    weights = load_file(out / "model.safetensors")
    assert manifest.costs["size"] == sum(weight.nbytes for weight in weights.values())


class Doubled:
    """Levels of the experts that stay, whose outputs are twice what they were."""

    def __init__(self, structure: ModelStructure) -> None:
        self._structure = structure

    def weights(self, position: int, count: int, _options: BlockOptions) -> PrunedWeights:
        component = self._structure.components[position]
        if not isinstance(component, Mixture):
            return {}
        layer = self._structure.backbone.layers[component.layer]
        members = torch.from_numpy(component.members(np.arange(component.member_count), count))
        stacks = {s.path: (s, layer.get_parameter(s.path)[members]) for s in component.stacks}
        return {
            path: LinearWeights(2 * weight if stack.role.startswith("down") else weight)
            for path, (stack, weight) in stacks.items()
        }


def test_pruned_weights_of_experts_are_exported_as_they_were_scored(
    biased: ModelStructure, loaded: LoadedModel, tmp_path: Path
) -> None:
    plan, tokens = varied(biased), random_tokens()
    orders, configurations = plan_orders(biased, plan), plan_configurations(biased, plan)
    sorted_model = sort_units_(twin(biased), orders)
    layer_builder = LayerBuilder(sorted_model, weight_source=Doubled(sorted_model.structure))
    expected = scored(sorted_model, configurations, tokens, layer_builder)
    weights = [
        OrderedWeights(weights=layer_builder.weights(position, int(configuration)), order=order)
        for position, (order, configuration) in enumerate(zip(orders, configurations, strict=True))
    ]
    (tmp_path / "altered").mkdir()
    write_model(tmp_path / "altered", cut_model(biased, plan, weights), loaded)
    assert_close(logits_of(load_export(tmp_path / "altered"), tokens), expected)
    plain = scored(sorted_model, configurations, tokens, LayerBuilder(sorted_model))
    changed = any(
        0 < configuration < b.unit_count
        for configuration, b in zip(configurations, biased.components, strict=True)
    )
    assert torch.equal(plain, expected) is not changed
