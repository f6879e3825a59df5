"""The structure of a model that was read: its layers, their components, and their weights."""

from search_spaces.structure.components import Component, ComponentKind, Projection
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.projections import Projections

__all__ = ["Component", "ComponentKind", "Mixture", "Projection", "Projections"]
