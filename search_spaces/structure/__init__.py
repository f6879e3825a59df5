"""Reading a model's structure from its module graph, not from a table of family names."""

from search_spaces.structure.components import Component, ComponentKind, Projection

__all__ = ["Component", "ComponentKind", "Projection"]
