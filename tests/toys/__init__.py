"""Problems whose exact fronts are known, to hold searchers against."""

from tests.toys.model import ToyModel
from tests.toys.problems import additive, noisy, pairwise, two_costs

__all__ = ["ToyModel", "additive", "noisy", "pairwise", "two_costs"]
