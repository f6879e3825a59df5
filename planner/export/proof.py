"""Proof that an exported model computes what was scored, before it is announced."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.errors import VerificationError
from search_spaces.space.configuration import Configurations
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options, plan_orders
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.backbone import logits_with_cache, position_count
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sort_units_

TOLERANCE = 1e-3
"""Relative to the logits' standard deviation: float32 sums in another order, nothing more."""
_PROOF_WINDOWS, _PROOF_TOKENS = 2, 48


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The differences that a comparison found."""

    logit_gap: float
    """Largest difference from the scored candidate's logits."""
    cache_gap: float
    """Largest difference between logits with a cache and without."""
    allowed: float
    tokens: int

    @property
    def holds(self) -> bool:
        """Whether the differences are within what is allowed."""
        return max(self.logit_gap, self.cache_gap) <= self.allowed


@torch.inference_mode()
def scored_logits(structure: ModelStructure, plan: Plan, tokens: Tensor) -> Tensor:
    """Return the logits of a candidate as the search scores it: prefix views of sorted weights.

    Args:
        structure: The dense model; its units are sorted in place.
        plan: The candidate.
        tokens: Token ids ``(batch, tokens)``.

    Returns:
        ``(batch, tokens, vocabulary)``
    """
    sorted_model = sort_units_(structure, plan_orders(structure, plan))
    layer_builder = LayerBuilder(sorted_model, plan_options(structure, plan))
    return logits_of(sorted_model, plan_configurations(structure, plan), tokens, layer_builder)


@torch.inference_mode()
def logits_of(
    sorted_model: SortedModel,
    configurations: Configurations,
    tokens: Tensor,
    layer_builder: LayerBuilder | None = None,
) -> Tensor:
    """Return the logits of a candidate as the search scores it.

    Args:
        sorted_model: The model.
        configurations: ``(components,)``
        tokens: Token ids ``(batch, tokens)``.
        layer_builder: Builds its layers; None: from slices of the dense ones.
    """
    backbone = sorted_model.structure.backbone
    ((_, final),) = PrefixTree(sorted_model, layer_builder).walk(
        configurations[None], backbone.enter(tokens)
    )
    return backbone.logits(final)


@torch.inference_mode()
def compare(exported: PreTrainedModel, expected: Tensor, tokens: Tensor) -> Proof:
    """Compare an exported model with the scored candidate, and itself with and without a cache.

    Args:
        exported: The model as it was loaded from its folder.
        expected: The candidate's logits ``(batch, tokens, vocabulary)``.
        tokens: Token ids ``(batch, tokens)``.
    """
    logits = exported(tokens, use_cache=False).logits
    cached_logits = logits_with_cache(exported, tokens)
    return Proof(
        logit_gap=float((logits - expected).abs().max()),
        cache_gap=float((cached_logits - logits[:, -cached_logits.shape[1] :]).abs().max()),
        allowed=TOLERANCE * float(expected.std()),
        tokens=tokens.numel(),
    )


def prove(exported: PreTrainedModel, expected: Tensor, tokens: Tensor) -> Proof:
    """Compare as `compare` does, and insist.

    Raises:
        VerificationError: If logits differ by more than the tolerance.
    """
    proof = compare(exported, expected, tokens)
    if not proof.holds:
        raise VerificationError(
            f"an export must compute what was scored within {proof.allowed:.1e}, got a logit gap "
            f"of {proof.logit_gap:.1e} and a cache gap of {proof.cache_gap:.1e}; "
            "please report this model"
        )
    return proof


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Return random token ids ``(windows, tokens)`` to compare logits on."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(_PROOF_TOKENS, position_count(model) or _PROOF_TOKENS)
    return torch.randint(vocabulary, (_PROOF_WINDOWS, length), generator=generator)
