"""Structure of a mixture of experts."""

from search_spaces.structure.mixture import Mixture as Experts
from search_spaces.structure.mixture import Stack, StackRole

__all__ = ["Experts", "Stack", "StackRole"]
