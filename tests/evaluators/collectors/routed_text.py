"""Text that mixtures of experts are run on, and the layer that is looked at."""

from evaluators.collectors.names import OF_EXPERT_TURNS, OF_EXPERTS
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens

TOKENS = random_tokens(3, 16)
ROUTED = OF_EXPERTS - OF_EXPERT_TURNS
LAYER = 2  # a mixture in every family


def experts_of(structure: ModelStructure) -> Component:
    component = structure.layers[LAYER].experts
    assert component is not None
    return component
