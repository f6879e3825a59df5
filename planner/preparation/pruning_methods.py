"""The pruning methods of a run: importances, compensation, sparsifiers, as settings name them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from evaluators.data.windows import Calibration
from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError, quoted
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
from search_spaces.pruned_weights.quantizers import make_quantizer
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.quantizers.quantized_stacks import stack_quantizer
from search_spaces.pruned_weights.refinements import make_refinement
from search_spaces.pruned_weights.rewriting import NO_REWRITING, Rewriting
from search_spaces.pruned_weights.sparsifiers import SparsifierName, make_sparsifier
from search_spaces.pruned_weights.sparsifiers.expert_stacks import stack_statistics
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.statistics import StatisticName
from search_spaces.structure.model import ModelStructure

_FOR_PRIORS: frozenset[StatisticName] = frozenset({"input_second_moment", "hidden_energy"})
_FOR_EXPERT_PRIORS: frozenset[StatisticName] = frozenset(
    {"expert_channel_energy", "expert_input_energy", "expert_frequency"}
)


@dataclass(frozen=True, kw_only=True)
class ExpertMethods:
    """What ranks experts by importance, merges them, sparsifies and quantises them."""

    importance: ExpertImportance | None = None
    merging: ExpertMerging | None = None
    sparsifier: Sparsifier | None = None
    quantizer: Quantizer | None = None
    name: str = ""
    """Of the methods that change their weights, joined by plus signs; empty: none does."""
    notice: str = ""
    """What a user should know about that; empty: nothing."""

    @classmethod
    def of(cls, settings: SearchSettings, structure: ModelStructure) -> "ExpertMethods":
        """Return those that settings name, as far as the space uses them."""
        pretrained = None
        if settings.expert_importance == "router_change":
            assert settings.pretrained_router is not None  # as settings check
            folder = Path(settings.pretrained_router)
            pretrained = read_pretrained_routers(folder, structure.backbone, structure.components)
        merging = settings.compensate.merges
        sparsifier = _stack_sparsifier(settings.sparsifier) if settings.space.sparse else None
        quantizer = stack_quantizer(settings.quantizer) if settings.space.formats else None
        names = {
            "merge": merging,
            f"experts-{sparsifier}": sparsifier,
            f"experts-{quantizer}": quantizer,
        }
        notices = [
            f"experts are {done} by {name}, because {asked} needs more statistics than are "
            "measured for each of them"
            for done, name, asked in (
                ("sparsified", sparsifier, settings.sparsifier),
                ("quantised", quantizer, settings.quantizer),
            )
            if name not in (None, asked)
        ]
        return cls(
            importance=make_expert_importance(settings.expert_importance, pretrained=pretrained),
            merging=ExpertMerging() if merging else None,
            sparsifier=make_sparsifier(sparsifier) if sparsifier else None,
            quantizer=make_quantizer(quantizer) if quantizer else None,
            name="+".join(name for name, is_used in names.items() if is_used),
            notice="; ".join(notices),
        )

    @property
    def importance_statistics(self) -> frozenset[StatisticName]:
        """What importances and sensitivity prior need."""
        if self.importance is None:
            return frozenset()
        return _FOR_EXPERT_PRIORS | self.importance.statistics

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What building pruned weights needs."""
        merged = frozenset() if self.merging is None else self.merging.statistics
        methods = [method for method in (self.sparsifier, self.quantizer) if method is not None]
        return merged.union(*map(stack_statistics, methods))


NO_EXPERTS = ExpertMethods()
"""Of a model without experts."""


def _stack_sparsifier(name: SparsifierName) -> SparsifierName:
    """Return the sparsifier of experts: the same one if it needs no more than input norms."""
    return name if name in ("magnitude", "wanda", "random") else "moe_pruner"


@dataclass(frozen=True, kw_only=True)
class PruningMethods:
    """What ranks units by importance, and what builds pruned weights."""

    unit_importance: UnitImportance
    layer_importance: LayerImportance | None = None
    compensation: Compensation | None = None
    rewriting: Rewriting = NO_REWRITING
    """Of attentions, MLPs and shared experts."""
    ends: Quantizer | None = None
    """Of the embedding and the head; None: they are in no number format."""
    rewrites: bool = False
    """Whether some options of the space leave no matrix a slice of the dense one."""
    stands_in: bool = False
    """Whether kept components may stand in for dropped ones."""
    experts: ExpertMethods = NO_EXPERTS

    @classmethod
    def of(cls, settings: SearchSettings, structure: ModelStructure) -> "PruningMethods":
        """Return those that settings name, as far as model and space use them.

        Raises:
            ModelError: If the router before fine-tuning cannot be read.
            SettingsError: If a method does not support experts and the model has some, or the
                other way round.
        """
        compensation, refinement, _ = settings.compensate
        if settings.compensate.merges and not structure.has_experts:
            raise SettingsError(
                "`compensate` merge joins experts of a mixture, and this model has none; leave it "
                "out"
            )
        if compensation == "tuning" and structure.has_experts:
            raise SettingsError(
                "`compensate` tuning fits attentions and MLPs one after another, and this model "
                "has experts between them; take obs or least_squares"
            )
        if settings.pretrained_router is not None and not structure.has_experts:
            raise SettingsError(
                "`--pretrained_router` must go with a mixture of experts, and "
                f"{quoted(settings.model)} has no experts; leave it out"
            )
        choices = settings.space
        sparse, formats = choices.sparse, bool(choices.formats)
        resizes = choices.heads or choices.channels
        by_layer = settings.prior in get_args(LayerImportanceName)
        return cls(
            unit_importance=make_unit_importance(settings.importance),
            layer_importance=make_layer_importance(cast("LayerImportanceName", settings.prior))
            if by_layer
            else None,
            compensation=make_compensation(compensation) if compensation and resizes else None,
            rewriting=Rewriting(
                sparsifier=make_sparsifier(settings.sparsifier) if sparse else None,
                refinement=make_refinement(refinement) if refinement and sparse else None,
                quantizer=make_quantizer(settings.quantizer) if formats else None,
            ),
            ends=make_quantizer(stack_quantizer(settings.quantizer)) if formats else None,
            rewrites=choices.rewrites,
            stands_in=choices.stand_ins,
            experts=ExpertMethods.of(settings, structure) if structure.has_experts else NO_EXPERTS,
        )

    @property
    def adds_bias(self) -> bool:
        """Return whether pruned components gain a bias."""
        return self.compensation is not None and self.compensation.adds_bias

    @property
    def refits_outputs(self) -> bool:
        """Return whether output projections are refitted at each width."""
        return self.compensation is not None and not self.compensation.adds_bias

    @property
    def merges_experts(self) -> bool:
        """Return whether pruned experts are merged into the kept ones."""
        return self.experts.merging is not None

    @property
    def changes_weights(self) -> bool:
        """Return whether some weights are no slices of the dense model's."""
        is_any = self.compensation is not None or self.rewrites or self.stands_in
        return is_any or self.merges_experts

    @property
    def importance_statistics(self) -> frozenset[StatisticName]:
        """What importances and sensitivity prior need."""
        layer = frozenset() if self.layer_importance is None else self.layer_importance.statistics
        refit: frozenset[StatisticName] = frozenset({"gram"} if self.refits_outputs else ())
        experts = self.experts.importance_statistics
        return _FOR_PRIORS | self.unit_importance.statistics | layer | refit | experts

    @property
    def weight_statistics(self) -> frozenset[StatisticName]:
        """What building pruned weights needs."""
        methods = (self.compensation, self.rewriting, self.experts)
        outputs = frozenset[StatisticName]({"component_output"} if self.stands_in else ())
        return outputs.union(*(method.statistics for method in methods if method is not None))


def weights_digest_of(
    settings: SearchSettings, methods: PruningMethods, calibration: Calibration
) -> str:
    """Return what identifies how weights are changed, and on which text; empty: they are not."""
    if not methods.changes_weights:
        return ""
    compensation, refinement, _ = settings.compensate
    names: list[str] = [
        methods.experts.name,
        compensation or "" if methods.compensation else "",
        settings.sparsifier if methods.rewriting.sparsifier else "",
        refinement or "" if methods.rewriting.refinement else "",
        settings.quantizer if methods.rewriting.quantizer else "",
        "stand_ins" if methods.stands_in else "",
    ]
    digest = hashlib.sha256(calibration.fitted.numpy().tobytes())
    if methods.compensation is not None:
        # the one constant that changes weights and is not in the name; plan ids depend on it
        damping = getattr(methods.compensation, "damping", None)
        constants = [] if damping is None else [("damping", damping)]
        digest.update(repr(constants).encode())
    return f"{'+'.join(filter(None, names))}@{digest.hexdigest()[:10]}"
