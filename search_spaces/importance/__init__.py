"""Importance: the order in which units, experts and whole layers are pruned.

The names are light, so that settings read them without torch; a criterion's module is imported
when it is made.
"""

from typing import TYPE_CHECKING, Literal, assert_never

from search_spaces.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from search_spaces.importance.protocol import (
        ExpertImportance,
        LayerImportance,
        UnitImportance,
    )

UnitImportanceName = Literal[
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
"""Criteria for heads and channels."""
LayerImportanceName = Literal["block_influence", "angular", "removal"]
"""Criteria for layers, attentions and MLPs as a whole."""
MeasuredImportanceName = Literal[
    "frequency",
    "router_weight",
    "reap",
    "reconstruction",
    "tcess",
    "language",
    "acceptance",
]
"""Criteria for experts that are statistics of the calibration pass."""
ExpertImportanceName = Literal[MeasuredImportanceName, "router_change", "magnitude", "random"]
"""Criteria for experts."""


def make_unit_importance(name: UnitImportanceName) -> "UnitImportance":  # noqa: C901, PLR0911  (one case a name)
    """Make the criterion of a name for heads and channels."""
    match name:
        case "magnitude":
            from search_spaces.importance.units.magnitude import Magnitude

            return Magnitude()
        case "wanda":
            from search_spaces.importance.units.wanda import Wanda

            return Wanda()
        case "flap":
            from search_spaces.importance.units.flap import FLAP

            return FLAP()
        case "taylor":
            from search_spaces.importance.units.taylor import Taylor

            return Taylor()
        case "fisher":
            from search_spaces.importance.units.fisher import Fisher

            return Fisher()
        case "gblm":
            from search_spaces.importance.units.gblm import GBLM

            return GBLM()
        case "obs":
            from search_spaces.importance.units.obs import OBS

            return OBS()
        case "activation":
            from search_spaces.importance.units.activation import Activation

            return Activation()
        case "cfsp":
            from search_spaces.importance.units.cfsp import CFSP

            return CFSP()
        case "random":
            from search_spaces.importance.units.random_order import RandomOrder

            return RandomOrder()
        case _:
            assert_never(name)


def make_layer_importance(name: LayerImportanceName) -> "LayerImportance":
    """Make the criterion of a name for whole layers, attentions and MLPs."""
    from search_spaces.importance.layers import Angular, BlockInfluence, Removal

    match name:
        case "block_influence":
            return BlockInfluence()
        case "angular":
            return Angular()
        case "removal":
            return Removal()
        case _:
            assert_never(name)


def make_expert_importance(
    name: ExpertImportanceName, *, pretrained: "Mapping[int, Tensor] | None" = None
) -> "ExpertImportance":
    """Make the criterion of a name for experts.

    Args:
        name: Its name.
        pretrained: For ``router_change``: by layer the router's rows before fine-tuning,
            ``(experts, hidden)``.

    Raises:
        SettingsError: If ``router_change`` is asked for without them.
    """
    match name:
        case "router_change":
            from search_spaces.importance.experts.router_change import RouterChange

            if pretrained is None:
                raise SettingsError(
                    "the expert importance `router_change` compares the router with the one "
                    "before fine-tuning, and got none; name the folder of that model with "
                    "`--pretrained_router`"
                )
            return RouterChange(pretrained)
        case "magnitude":
            from search_spaces.importance.experts.expert_magnitude import ExpertMagnitude

            return ExpertMagnitude()
        case "random":
            from search_spaces.importance.experts.random_expert_order import RandomExpertOrder

            return RandomExpertOrder()
        case (
            "frequency" | "router_weight" | "reap" | "reconstruction" | "tcess" | "language"
            | "acceptance"
        ):  # fmt: skip
            from search_spaces.importance.experts.measured import MEASURED

            return MEASURED[name]
        case _:
            assert_never(name)
