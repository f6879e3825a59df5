"""One file for each order in which the experts of a mixture go.

The names are light; what a ranking needs comes with it.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast

from search_spaces.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.expert_rankings.protocol import ExpertRanking

ExpertRankingName = Literal[
    "frequency",
    "router_weight",
    "reap",
    "reconstruction",
    "tcess",
    "language",
    "router_change",
    "acceptance",
    "magnitude",
    "random",
]

_CLASSES: Mapping[ExpertRankingName, str] = {
    "frequency": "frequency.Frequency",
    "router_weight": "router_weight.RouterWeight",
    "reap": "reap.REAP",
    "reconstruction": "reconstruction.Reconstruction",
    "tcess": "tcess.TCESS",
    "language": "language.LanguageSpecific",
    "router_change": "router_change.RouterChange",
    "acceptance": "acceptance.Acceptance",
    "magnitude": "magnitude.Magnitude",
    "random": "random_order.RandomOrder",
}


def make_expert_ranking(
    name: ExpertRankingName, *, pretrained: "Mapping[int, Tensor] | None" = None
) -> "ExpertRanking":
    """Give the ranking of a name.

    Args:
        name: Its name.
        pretrained: For ``router_change``: by layer the router's rows before fine-tuning,
            ``(experts, hidden)``.

    Raises:
        SettingsError: Where ``router_change`` is asked for without them.
    """
    module, _, kind = _CLASSES[name].rpartition(".")
    made = getattr(import_module(f"{__name__}.{module}"), kind)
    if name != "router_change":
        return cast("ExpertRanking", made())
    if pretrained is None:
        raise SettingsError(
            "the expert ranking `router_change` compares the router with the one before "
            "fine-tuning, and got none; name the folder of that model with `--pretrained_router`"
        )
    return cast("ExpertRanking", made(pretrained))
