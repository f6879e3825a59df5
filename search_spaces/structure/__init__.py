"""The structure of a model that was read: its layers, their components, and their weights."""

from search_spaces.structure.components import Component, ComponentKind, Projection

__all__ = ["Component", "ComponentKind", "Projection"]
