"""Text that mixtures of experts are run on, and the layer that is looked at."""

from evaluators.collectors.names import OF_EXPERT_TURNS, OF_EXPERTS
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.parts import experts_in

TOKENS = random_tokens(3, 16)
ROUTED = OF_EXPERTS - OF_EXPERT_TURNS
LAYER = 2  # a mixture in every family


def experts_of(structure: ModelStructure) -> Mixture:
    component = experts_in(structure.layers[LAYER])
    assert component is not None
    return component
