"""Criteria by which units, and whole sub-blocks and layers, are ordered: one file for each.

The names are light; what a ranking needs comes with it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from search_spaces.rankings.protocol import DepthRanking, Ranking

RankingName = Literal[
    "magnitude",
    "wanda",
    "flap",
    "taylor",
    "fisher",
    "gblm",
    "obs",
    "activation",
    "cfsp",
    "random",
]
"""Of the units of a sub-block."""
DepthRankingName = Literal["block_influence", "angular", "removal"]
"""Of layers, attentions and MLPs."""

_CLASSES: Mapping[RankingName, str] = {
    "magnitude": "magnitude.Magnitude",
    "wanda": "wanda.Wanda",
    "flap": "flap.FLAP",
    "taylor": "taylor.Taylor",
    "fisher": "fisher.Fisher",
    "gblm": "gblm.GBLM",
    "obs": "obs.OBS",
    "activation": "activation.Activation",
    "cfsp": "cfsp.CFSP",
    "random": "random_order.RandomOrder",
}
_DEPTH_CLASSES: Mapping[DepthRankingName, str] = {
    "block_influence": "block_influence.BlockInfluence",
    "angular": "angular.Angular",
    "removal": "removal.Removal",
}


def make_ranking(name: RankingName) -> "Ranking":
    """Give the ranking of a name."""
    return cast("Ranking", _made(_CLASSES[name]))


def make_depth_ranking(name: DepthRankingName) -> "DepthRanking":
    """Give the ranking of whole layers and sub-blocks of a name."""
    return cast("DepthRanking", _made(_DEPTH_CLASSES[name]))


def _made(place: str) -> object:
    module, _, name = place.rpartition(".")
    made: object = getattr(import_module(f"{__name__}.{module}"), name)()
    return made
