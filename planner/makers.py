"""Who orders units and who makes weights, as settings name them."""

import hashlib
from dataclasses import dataclass
from typing import cast, get_args

from evaluators.calibration import Calibration
from planner.settings import SearchSettings
from search_spaces.compensation import make_compensation
from search_spaces.compensation.protocol import Compensation
from search_spaces.rankings import DepthRankingName, make_depth_ranking, make_ranking
from search_spaces.rankings.protocol import DepthRanking, Ranking
from search_spaces.sparsifiers import make_refinement, make_sparsifier
from search_spaces.sparsifiers.protocol import Refinement, Sparsifier
from search_spaces.statistics import StatisticName

_FOR_GUESSES: frozenset[StatisticName] = frozenset({"input_second_moment", "hidden_energy"})


@dataclass(frozen=True, kw_only=True)
class Makers:
    """Who orders units, and who makes the weights of levels."""

    ranking: Ranking
    depth: DepthRanking | None = None
    compensation: Compensation | None = None
    sparsifier: Sparsifier | None = None
    refinement: Refinement | None = None

    @classmethod
    def of(cls, settings: SearchSettings) -> "Makers":
        """Give those that settings name, as far as the space has a use for them."""
        compensation, refinement = settings.repairs
        choices = settings.choices
        sparse, narrows = choices.sparse, choices.heads or choices.channels
        depth = settings.guess in get_args(DepthRankingName)
        return cls(
            ranking=make_ranking(settings.ranking),
            depth=make_depth_ranking(cast("DepthRankingName", settings.guess)) if depth else None,
            compensation=make_compensation(compensation) if compensation and narrows else None,
            sparsifier=make_sparsifier(settings.sparsifier) if sparse else None,
            refinement=make_refinement(refinement) if refinement and sparse else None,
        )

    @property
    def adds_bias(self) -> bool:
        """Whether sub-blocks that lose units gain a bias."""
        return self.compensation is not None and self.compensation.adds_bias

    @property
    def fits(self) -> bool:
        """Whether output projections are fitted anew at each width."""
        return self.compensation is not None and not self.compensation.adds_bias

    @property
    def changes_weights(self) -> bool:
        """Whether levels hold other weights than the dense model's."""
        return self.compensation is not None or self.sparsifier is not None

    @property
    def for_order(self) -> frozenset[StatisticName]:
        """Statistics that ranking and guessing need."""
        depth = frozenset() if self.depth is None else self.depth.statistics
        fitted: frozenset[StatisticName] = frozenset({"gram"} if self.fits else ())
        return _FOR_GUESSES | self.ranking.statistics | depth | fitted

    @property
    def for_levels(self) -> frozenset[StatisticName]:
        """Statistics that the weights of levels need."""
        makers = (self.compensation, self.sparsifier, self.refinement)
        return frozenset().union(*(maker.statistics for maker in makers if maker is not None))


def repair_name(settings: SearchSettings, makers: Makers, calibration: Calibration) -> str:
    """Name how weights of levels are made, and from which text; empty: they are as they were."""
    if not makers.changes_weights:
        return ""
    compensation, refinement = settings.repairs
    names: list[str] = [
        compensation or "" if makers.compensation else "",
        settings.sparsifier if makers.sparsifier else "",
        refinement or "" if makers.refinement else "",
    ]
    digest = hashlib.sha256(calibration.statistics.numpy().tobytes())
    if makers.compensation:  # its constants, such as the damping
        digest.update(repr(sorted(vars(makers.compensation).items())).encode())
    return f"{'+'.join(filter(None, names))}@{digest.hexdigest()[:10]}"
