"""Proving that an exported folder computes what was scored, before it gets its name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.errors import VerificationError
from search_spaces.space.configuration import Configurations
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options, plan_orders
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.apply import LayerBuilder
from search_spaces.surgery.sort import sort_units_

TOLERANCE = 1e-3
"""Of the logits' spread: float32 sums in another order, nothing more."""
_PROOF_WINDOWS, _PROOF_TOKENS = 2, 48
CACHED_TOKENS = 4
"""Tokens fed one by one to prove the cache."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the comparison showed."""

    logit_gap: float
    """Largest difference from the scored candidate's logits."""
    cache_gap: float
    """Largest difference between logits with a cache and without."""
    allowed: float
    tokens: int


def reload(folder: Path) -> PreTrainedModel:
    """Load an exported folder as a client would, in float32, and insist on every weight.

    Raises:
        VerificationError: Where weights are missing, left over or misshapen.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        trust_remote_code=True,
        use_safetensors=True,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # reported below with the others
        output_loading_info=True,
    )
    model, info = loaded
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise VerificationError(
                f"an export must hold exactly the weights of its model, got {kind} "
                f"{sorted(map(str, info[kind]))[:3]}; please report this model"
            )
    model.eval()
    assert isinstance(model, PreTrainedModel)
    return model


@torch.inference_mode()
def scored_logits(structure: ModelStructure, plan: Plan, tokens: Tensor) -> Tensor:
    """Give the logits of the candidate as the search scores it: prefix views of sorted weights.

    Args:
        structure: The dense model; its units are sorted in place.
        plan: The candidate.
        tokens: Token ids ``(batch, tokens)``.

    Returns:
        ``(batch, tokens, vocabulary)``
    """
    sort_units_(structure, plan_orders(structure, plan))
    layer_builder = LayerBuilder(structure, plan_options(structure, plan))
    return logits_of(structure, plan_configurations(structure, plan), tokens, layer_builder)


@torch.inference_mode()
def logits_of(
    structure: ModelStructure,
    configurations: Configurations,
    tokens: Tensor,
    layer_builder: LayerBuilder | None = None,
) -> Tensor:
    """Give the logits of a candidate as the search scores it.

    Args:
        structure: The model, sorted.
        configurations: ``(components,)``
        tokens: Token ids ``(batch, tokens)``.
        layer_builder: Gives layers their forms; none: parts of the dense ones.
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
        exported: As `reload` gives it.
        expected: The candidate's logits ``(batch, tokens, vocabulary)``.
        tokens: Token ids ``(batch, tokens)``.

    Raises:
        VerificationError: Where logits differ by more than the tolerance.
    """
    got = exported(tokens, use_cache=False).logits
    proof = Proof(
        logit_gap=float((got - expected).abs().max()),
        cache_gap=float((_cached_logits(exported, tokens) - got[:, -CACHED_TOKENS:]).abs().max()),
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
    """Give the logits of the last tokens, each fed by itself after a cached prompt."""
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
    """Give random token ids ``(windows, tokens)`` to compare logits on."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(_PROOF_TOKENS, position_count(model) or _PROOF_TOKENS)
    return torch.randint(vocabulary, (_PROOF_WINDOWS, length), generator=generator)
