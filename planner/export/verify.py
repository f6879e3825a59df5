"""Proving that an exported folder computes what was scored, before it gets its name."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluators.population import PrefixTree
from search_spaces.errors import VerificationError
from search_spaces.forms import Forms, forms_of, unit_counts
from search_spaces.orders import Orders
from search_spaces.plan import Plan
from search_spaces.shaping import Shaper
from search_spaces.sorting import sort_units_
from search_spaces.structure.backbone import position_count
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock
from search_spaces.variants import PLAIN, Variant, variants_of

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
    shaper = Shaper(structure, plan_variants(structure, plan))
    return logits_of(structure, plan_forms(structure, plan), tokens, shaper)


def plan_orders(structure: ModelStructure, plan: Plan) -> Orders:
    """Give orders in which what a plan keeps comes first.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    blocks = structure.sub_blocks
    members: list[NDArray[np.int_]] = []
    channels: dict[int, NDArray[np.int_]] = {}
    for position, (block, kept) in enumerate(zip(blocks, plan.kept_units(blocks), strict=True)):
        gone = np.ones(block.member_count, dtype=np.bool_)
        gone[kept] = False
        first = np.arange(block.group_count)[:, None] * block.unit_count
        members.append((first + _kept_first(gone.reshape(block.group_count, -1))).ravel())
        own = plan.thinned(block).channels
        if block.experts is not None and own is not None:
            gone = np.ones((block.member_count, block.experts.channel_count), dtype=np.bool_)
            gone[kept[:, None], own] = False
            channels[position] = _kept_first(gone)
    return Orders(members=tuple(members), channels=channels)


def _kept_first(gone: NDArray[np.bool_]) -> NDArray[np.int_]:
    """Give the positions along the last axis, those that stay before those that go."""
    return gone.argsort(axis=1, kind="stable")


def plan_variants(structure: ModelStructure, plan: Plan) -> tuple[tuple[Variant, ...], ...]:
    """Give the ways of thinning out that a plan with dense weights needs, for each sub-block."""
    return tuple(
        variants_of() if own == PLAIN else (PLAIN, own)
        for own in (_variant(plan, block) for block in structure.sub_blocks)
    )


def plan_forms(structure: ModelStructure, plan: Plan) -> Forms:
    """Give the forms ``(sub_blocks,)`` of a plan with dense weights, among `plan_variants`.

    Raises:
        PlanError: Where the plan's sites are not the model's.
    """
    blocks = structure.sub_blocks
    kept = [
        len(members) // block.group_count
        for members, block in zip(plan.kept_units(blocks), blocks, strict=True)
    ]
    thinned = [int(_variant(plan, block) != PLAIN) for block in blocks]
    return forms_of(np.array(kept), np.array(thinned), unit_counts(blocks))


def _variant(plan: Plan, block: SubBlock) -> Variant:
    own = plan.thinned(block)
    channels = 0 if own.channels is None else own.channels.shape[1]
    return Variant(channels=channels, top_k=own.top_k)


@torch.inference_mode()
def logits_of(
    structure: ModelStructure, forms: Forms, tokens: Tensor, shaper: Shaper | None = None
) -> Tensor:
    """Give the logits of a candidate as the search scores it.

    Args:
        structure: The model, sorted.
        forms: ``(sub_blocks,)``
        tokens: Token ids ``(batch, tokens)``.
        shaper: Gives layers their forms; none: parts of the dense ones.
    """
    backbone = structure.backbone
    ((_, final),) = PrefixTree(structure, shaper).walk(forms[None], backbone.enter(tokens))
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
