"""Sites: the single choices of a search."""

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.space.configuration import Dimension


@dataclass(frozen=True, kw_only=True)
class Site:
    """One choice of the search, such as the heads that an attention keeps."""

    name: str
    targets: tuple[int, ...]
    """Positions of the components that the choice affects."""
    levels: tuple[tuple[int, ...], ...]
    """For each level, ascending, the configuration of each target, other sites at their top."""
    dimension: Dimension = "units"
    """Along which the levels lie."""
    stands_in: bool = False
    """Whether its targets are dropped at the second level too, and there what is kept before them
    stands in for them."""

    @property
    def top_level(self) -> int:
        return len(self.levels) - 1

    @property
    def lowest_kept(self) -> int:
        """The lowest level that keeps some of its targets, if the lowest of all drops them."""
        return 2 if self.stands_in else 1

    @property
    def configurations_by_target(self) -> Mapping[int, tuple[int, ...]]:
        """For each target its configuration at each level, with all other sites at their top."""
        return dict(zip(self.targets, zip(*self.levels, strict=True), strict=True))
