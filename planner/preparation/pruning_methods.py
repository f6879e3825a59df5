"""Who orders units and who makes weights, as settings name them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from evaluators.data.windows import Calibration
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError
from search_spaces.importance import (
    LayerImportanceName,
    make_expert_importance,
    make_layer_importance,
    make_unit_importance,
)
from search_spaces.importance.experts.pretrained import read_pretrained_routers
from search_spaces.importance.protocol import ExpertImportance, LayerImportance, UnitImportance
from search_spaces.pruned_weights.compensation import make_compensation
from search_spaces.pruned_weights.compensation.protocol import Compensation
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.sparsifiers import (
    SparsifierName,
    make_refinement,
    make_sparsifier,
)
from search_spaces.pruned_weights.sparsifiers.expert_stacks import stack_statistics
from search_spaces.pruned_weights.sparsifiers.protocol import Refinement, Sparsifier
from search_spaces.statistics import StatisticName
from search_spaces.structure.model import ModelStructure

_FOR_PRIORS: frozenset[StatisticName] = frozenset({"input_second_moment", "hidden_energy"})
_FOR_EXPERT_PRIORS: frozenset[StatisticName] = frozenset(
    {"expert_channel_energy", "expert_input_energy", "expert_frequency"}
)


@dataclass(frozen=True, kw_only=True)
class ExpertMethods:
    """Who orders experts, merges them and makes them sparse."""

    importance: ExpertImportance
    merging: ExpertMerging | None = None
    sparsifier: Sparsifier | None = None
    name: str = ""
    """Of what changes their weights, with plus signs between; empty: nothing does."""
    notice: str = ""
    """What a user should know of that."""

    @classmethod
    def of(cls, settings: SearchSettings, structure: ModelStructure) -> "ExpertMethods":
        """Give those that settings name, as far as the space has a use for them."""
        pretrained = None
        if settings.expert_importance == "router_change":
            assert settings.pretrained_router is not None  # as settings check
            folder = Path(settings.pretrained_router)
            pretrained = read_pretrained_routers(folder, structure.backbone, structure.components)
        merging = settings.weight_methods.merges
        sparsifier = _of_stacks(settings.sparsifier) if settings.choices.sparse else None
        names = ["merge" if merging else "", f"experts-{sparsifier}" if sparsifier else ""]
        notice = ""
        if sparsifier not in (None, settings.sparsifier):
            notice = (
                f"experts are made sparse by {sparsifier}, for {settings.sparsifier} needs more "
                "than is measured of each of them"
            )
        return cls(
            importance=make_expert_importance(settings.expert_importance, pretrained=pretrained),
            merging=ExpertMerging() if merging else None,
            sparsifier=make_sparsifier(sparsifier) if sparsifier else None,
            name="+".join(filter(None, names)),
            notice=notice,
        )

    @property
    def for_order(self) -> frozenset[StatisticName]:
        """Statistics that ranking and guessing need."""
        return _FOR_EXPERT_PRIORS | self.importance.statistics

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """Statistics that the weights of levels need."""
        merged = frozenset() if self.merging is None else self.merging.statistics
        return merged | (stack_statistics(self.sparsifier) if self.sparsifier else frozenset())


def _of_stacks(name: SparsifierName) -> SparsifierName:
    """Give who makes experts sparse: the same where it takes no more than their inputs' size."""
    return name if name in ("magnitude", "wanda", "random") else "moe_pruner"


@dataclass(frozen=True, kw_only=True)
class PruningMethods:
    """Who orders units, and who makes the weights of levels."""

    unit_importance: UnitImportance
    layer_importance: LayerImportance | None = None
    compensation: Compensation | None = None
    sparsifier: Sparsifier | None = None
    refinement: Refinement | None = None
    experts: ExpertMethods | None = None
    """None where the model has no experts."""

    @classmethod
    def of(cls, settings: SearchSettings, structure: ModelStructure) -> "PruningMethods":
        """Give those that settings name, as far as model and space have a use for them.

        Raises:
            ModelError: Where the router before fine-tuning cannot be read.
            SettingsError: Where a method does not know experts, and the model has some.
        """
        compensation, refinement, _ = settings.weight_methods
        if settings.weight_methods.merges and not structure.has_experts:
            raise SettingsError(
                "`compensate` merge joins experts of a mixture, and this model has none; leave it "
                "out"
            )
        if compensation == "tuning" and structure.has_experts:
            raise SettingsError(
                "`compensate` tuning fits attentions and MLPs one after another, and this model "
                "has experts between them; take obs or least_squares"
            )
        choices = settings.choices
        sparse, narrows = choices.sparse, choices.heads or choices.channels
        depth = settings.prior in get_args(LayerImportanceName)
        return cls(
            unit_importance=make_unit_importance(settings.importance),
            layer_importance=make_layer_importance(cast("LayerImportanceName", settings.prior))
            if depth
            else None,
            compensation=make_compensation(compensation) if compensation and narrows else None,
            sparsifier=make_sparsifier(settings.sparsifier) if sparse else None,
            refinement=make_refinement(refinement) if refinement and sparse else None,
            experts=ExpertMethods.of(settings, structure) if structure.has_experts else None,
        )

    @property
    def adds_bias(self) -> bool:
        """Whether components that lose units gain a bias."""
        return self.compensation is not None and self.compensation.adds_bias

    @property
    def fits(self) -> bool:
        """Whether output projections are fitted anew at each width."""
        return self.compensation is not None and not self.compensation.adds_bias

    @property
    def changes_weights(self) -> bool:
        """Whether levels hold other weights than the dense model's."""
        merges = self.experts is not None and self.experts.merging is not None
        return self.compensation is not None or self.sparsifier is not None or merges

    @property
    def for_order(self) -> frozenset[StatisticName]:
        """Statistics that ranking and guessing need."""
        depth = frozenset() if self.layer_importance is None else self.layer_importance.statistics
        fitted: frozenset[StatisticName] = frozenset({"gram"} if self.fits else ())
        experts = frozenset() if self.experts is None else self.experts.for_order
        return _FOR_PRIORS | self.unit_importance.statistics | depth | fitted | experts

    @property
    def for_levels(self) -> frozenset[StatisticName]:
        """Statistics that the weights of levels need."""
        methods = (self.compensation, self.sparsifier, self.refinement, self.experts)
        return frozenset().union(*(maker.statistics for maker in methods if maker is not None))


def weights_digest_of(
    settings: SearchSettings, methods: PruningMethods, calibration: Calibration
) -> str:
    """Name how weights of levels are made, and from which text; empty: they are as they were."""
    if not methods.changes_weights:
        return ""
    compensation, refinement, _ = settings.weight_methods
    names: list[str] = [
        "" if methods.experts is None else methods.experts.name,
        compensation or "" if methods.compensation else "",
        settings.sparsifier if methods.sparsifier else "",
        refinement or "" if methods.refinement else "",
    ]
    digest = hashlib.sha256(calibration.statistics.numpy().tobytes())
    if methods.compensation:  # its constants, such as the damping
        digest.update(repr(sorted(vars(methods.compensation).items())).encode())
    return f"{'+'.join(filter(None, names))}@{digest.hexdigest()[:10]}"
