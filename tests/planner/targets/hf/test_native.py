"""What is said to load without our code does, and nothing else that is alike in all layers."""

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.targets.hf.model_folder import cut_model
from planner.targets.hf.native import native_holds, vllm_holds
from planner.targets.holding import refusals
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, shorter_plan, uniform_plan
from tests.models.families import EACH_FAMILY, FAMILIES, dense
from tests.models.moe_families import mixture
from tests.planner.export.exports import plan_of
from tests.planner.targets.plans import alike


def first(structure: ModelStructure, kind: str) -> Component:
    return next(each for each in structure.components if each.kind == kind)


@pytest.mark.parametrize("name", EACH_FAMILY)
def test_a_width_is_held_if_and_only_if_a_stock_class_loads_it(name: str) -> None:
    structure = dense(name)
    holds = native_holds(structure)
    for kind, counts in (("attention", (1, 3)), ("mlp", (24,))):
        component = first(structure, kind)
        for units in counts:
            if units > component.unit_count:
                continue
            is_held = not holds.refuses(component, units, DENSE_OPTIONS)
            assert is_held is cut_model(structure, alike(structure, kind, units)).is_stock


@pytest.mark.parametrize(
    ("name", "kind", "units"),
    [("mixtral", "experts", 6), ("qwen2-moe", "shared", 8), ("deepseek-v3", "shared", 24)],
)
def test_parts_of_mixtures_are_held_if_a_stock_class_loads_them(
    name: str, kind: str, units: int
) -> None:
    structure = mixture(name)
    is_held = not native_holds(structure).refuses(first(structure, kind), units, DENSE_OPTIONS)
    assert is_held is cut_model(structure, alike(structure, kind, units)).is_stock
    assert is_held is (name != "deepseek-v3")  # whose shared experts are as wide as the others


def test_options_inside_experts_are_asked_for_themselves() -> None:
    for name, channels in (("mixtral", True), ("deepseek-v3", False)):
        structure = mixture(name)
        experts, holds = mixtures_of(structure.components)[0], native_holds(structure)
        whole = experts.unit_count
        assert (not holds.refuses(experts, whole, BlockOptions(channels=8))) is channels
        assert not holds.refuses(experts, whole, BlockOptions(top_k=1))


def test_plans_are_refused_where_layers_differ(llama: ModelStructure) -> None:
    family, holds = FAMILIES["llama"], native_holds(llama)

    def found(kept: list[NDArray[np.int_]]) -> set[str]:
        return {
            refusal.site for refusal in refusals(holds, llama.components, plan_of(llama, kept))
        }

    assert not found(uniform_plan(family))
    assert not found(shorter_plan(family))
    assert "layers.0.attention" in found(irregular_plan(family))


def test_vllm_holds_layers_that_differ_but_inside_of_experts(llama: ModelStructure) -> None:
    kept = irregular_plan(FAMILIES["llama"])
    assert not refusals(vllm_holds(llama), llama.components, plan_of(llama, kept))
    assert "does not let vLLM" in vllm_holds(dense("stablelm")).refuses_model
    experts = vllm_holds(mixture("mixtral")).equal["experts"]
    assert experts == {"channels", "top_k"}
