"""Comparing an export with its candidate in this process: thousands of them, quickly."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from planner.export.proof import Proof
from planner.export.reference import scored
from planner.targets.hf.hf_target import TOLERANCE
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.path_checks import logits_with_cache


def scored_logits(structure: ModelStructure, plan: Plan, tokens: Tensor) -> Tensor:
    """Return the logits ``(batch, tokens, vocabulary)`` of a candidate as it is scored."""
    with scored(structure, plan) as score:
        return score(tokens)


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
    return compare(exported, expected, tokens).insist("torch")
