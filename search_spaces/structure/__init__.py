"""Reading a model's structure from its module graph, not from a table of family names."""

from search_spaces.structure.components import Projection, SubBlock, SubBlockKind

__all__ = ["Projection", "SubBlock", "SubBlockKind"]
