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
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sort_units_

TOLERANCE = 1e-3
"""Relative to the logits' standard deviation: float32 sums in another order, nothing more."""
_PROOF_WINDOWS, _PROOF_TOKENS = 2, 48
CACHED_TOKENS = 4
"""Tokens fed one by one to check the cache."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The differences that a comparison found."""

    logit_gap: float
    """Largest difference from the scored candidate's logits."""
    cache_gap: float
    """Largest difference between logits with a cache and without."""
    allowed: float
    tokens: int


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
    return logits_of(structure, plan_configurations(structure, plan), tokens, layer_builder)


@torch.inference_mode()
def logits_of(
    structure: ModelStructure,
    configurations: Configurations,
    tokens: Tensor,
    layer_builder: LayerBuilder | None = None,
) -> Tensor:
    """Return the logits of a candidate as the search scores it.

    Args:
        structure: The model, sorted.
        configurations: ``(components,)``
        tokens: Token ids ``(batch, tokens)``.
        layer_builder: Builds its layers; None: from slices of the dense ones.
    """
    backbone = structure.backbone
    ((_, final),) = PrefixTree(structure, layer_builder).walk(
        configurations[None], backbone.enter(tokens)
    )
    return backbone.logits(final)


@torch.inference_mode()
def prove(exported: PreTrainedModel, expected: Tensor, tokens: Tensor) -> Proof:
    """Compare an exported model with the scored candidate, and itself with and without a cache.

    Args:
        exported: The model as it was loaded from its folder.
        expected: The candidate's logits ``(batch, tokens, vocabulary)``.
        tokens: Token ids ``(batch, tokens)``.

    Raises:
        VerificationError: If logits differ by more than the tolerance.
    """
    logits = exported(tokens, use_cache=False).logits
    cached_logits = _cached_logits(exported, tokens)
    proof = Proof(
        logit_gap=float((logits - expected).abs().max()),
        cache_gap=float((cached_logits - logits[:, -CACHED_TOKENS:]).abs().max()),
        allowed=TOLERANCE * float(expected.std()),
        tokens=tokens.numel(),
    )
    if not max(proof.logit_gap, proof.cache_gap) <= proof.allowed:
        raise VerificationError(
            f"an export must compute what was scored within {proof.allowed:.1e}, got a logit gap "
            f"of {proof.logit_gap:.1e} and a cache gap of {proof.cache_gap:.1e}; "
            "please report this model"
        )
    return proof


def _cached_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Return the logits of the last tokens, each fed by itself after a cached prompt."""
    output = model(tokens[:, :-CACHED_TOKENS], use_cache=True)
    logits = []
    for position in range(tokens.shape[1] - CACHED_TOKENS, tokens.shape[1]):
        output = model(
            tokens[:, position : position + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        logits.append(output.logits)
    return torch.cat(logits, dim=1)


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Return random token ids ``(windows, tokens)`` to compare logits on."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(_PROOF_TOKENS, position_count(model) or _PROOF_TOKENS)
    return torch.randint(vocabulary, (_PROOF_WINDOWS, length), generator=generator)
