"""Problems whose exact fronts are known, to hold searchers against."""

from tests.problems.model import ToyModel
from tests.problems.problems import additive, noisy, pairwise, two_costs

__all__ = ["ToyModel", "additive", "noisy", "pairwise", "two_costs"]
