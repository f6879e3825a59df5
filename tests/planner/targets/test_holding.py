"""What is said of a plan that a target cannot hold."""

import pytest

from planner.targets.holding import check_holds
from planner.targets.target_names import TargetName
from search_spaces.errors import TargetError
from search_spaces.space.holds import Holds
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.planner.targets.plans import alike

NOTHING = Holds(refuses=lambda _component, _units, _options: "it is odd")


@pytest.fixture
def plan(llama: ModelStructure) -> Plan:
    return alike(llama, "mlp", 12)


def refusal(name: TargetName, holds: Holds, structure: ModelStructure, plan: Plan) -> str:
    with pytest.raises(TargetError) as caught:
        check_holds(name, holds, structure.components, plan)
    assert len(str(caught.value)) <= 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("gguf", ", or search with `--loads_in llama.cpp`"),
        ("onnx", ", or search with `--loads_in onnx`"),
        ("deci", ""),  # no search is restricted to what it holds
        ("hf", ""),
    ],
)
def test_the_search_that_it_could_hold_is_named_where_there_is_one(
    name: TargetName, remedy: str, llama: ModelStructure, plan: Plan
) -> None:
    said = refusal(name, NOTHING, llama, plan)
    assert said.endswith(f"it is odd; choose another format{remedy}")


def test_no_search_helps_a_model_that_is_not_held(llama: ModelStructure, plan: Plan) -> None:
    said = refusal("gguf", Holds(refuses_model="it is odd"), llama, plan)
    assert said.endswith("at `model` it is not: it is odd; choose another format")
