"""Methods that a model has no use for are refused."""

import pytest

from planner.preparation.pruning_methods import PruningMethods
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.structure.model import ModelStructure


def test_a_router_before_fine_tuning_needs_experts(llama: ModelStructure) -> None:
    settings = SearchSettings.checked(
        model="llama",
        budget="params<=0.8x",
        expert_importance="router_change",
        pretrained_router="/nowhere",
    )
    with pytest.raises(SettingsError, match="`--pretrained_router` must go with a mixture"):
        PruningMethods.of(settings, llama)
