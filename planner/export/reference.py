"""What an export must compute: what the search scored, read before the model is cut."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.space.configuration import Configurations
from search_spaces.space.plan import Plan
from search_spaces.space.plan_configuration import plan_configurations, plan_options, plan_orders
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sort_units_

WRITTEN = 32
"""Tokens that an export must write as the candidate does."""
_WINDOWS, _TOKENS = 2, 48

Score = Callable[[Tensor], Tensor]
"""Logits ``(batch, tokens, vocabulary)`` of token ids ``(batch, tokens)``."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The logits of a candidate as it was scored, and what it writes."""

    tokens: Tensor
    """Token ids ``(windows, tokens)``."""
    logits: Tensor
    """``(windows, tokens, vocabulary)``"""
    written: tuple[int, ...]
    """The most probable tokens after the first half of the first window, one after the other."""
    margins: tuple[float, ...]
    """By how much the logit of each exceeds the next one's."""

    @property
    def spread(self) -> float:
        """Standard deviation of the logits."""
        return float(self.logits.std())


@torch.inference_mode()
def reference_of(score: Score, model: PreTrainedModel) -> Reference:
    """Read a candidate.

    Args:
        score: Its logits, as the search scores it.
        model: The dense model.
    """
    tokens = proof_tokens(model)
    sequence = tokens[:1, : tokens.shape[1] // 2]
    room = (position_count(model) or sequence.shape[1] + WRITTEN) - sequence.shape[1]
    written, margins = [], []
    for _ in range(min(WRITTEN, room)):
        best = score(sequence)[0, -1].topk(2)
        written.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        sequence = torch.cat([sequence, best.indices[:1][None].to(sequence.device)], dim=1)
    return Reference(
        tokens=tokens, logits=score(tokens), written=tuple(written), margins=tuple(margins)
    )


@contextmanager
def scored(structure: ModelStructure, plan: Plan) -> Iterator[Score]:
    """Give a candidate as the search scores it: prefix views of sorted weights.

    Args:
        structure: The dense model; its units are in pruning order meanwhile.
        plan: The candidate; all its weights are slices of the dense ones.
    """
    sorted_model = sort_units_(structure, plan_orders(structure, plan))
    layer_builder = LayerBuilder(sorted_model, plan_options(structure, plan))
    configurations = plan_configurations(structure, plan)
    try:
        yield lambda tokens: logits_of(sorted_model, configurations, tokens, layer_builder)
    finally:
        sorted_model.restore_()


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


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Return random token ids ``(windows, tokens)`` to compare logits on."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(_TOKENS, position_count(model) or _TOKENS)
    return torch.randint(vocabulary, (_WINDOWS, length), generator=generator)
