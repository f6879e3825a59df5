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
    """What an export must compute: the logits of a candidate as it was scored."""

    tokens: Tensor
    """Token ids ``(windows, tokens)``."""
    logits: Tensor
    """``(windows, tokens, vocabulary)``"""
    room: int
    """Tokens that may follow the first half of a window."""

    @property
    def spread(self) -> float:
        """Standard deviation of the logits."""
        return float(self.logits.std())

    @property
    def prompt(self) -> Tensor:
        """The first half of the first window, ``(1, tokens)``, which an export goes on from."""
        return self.tokens[:1, : self.tokens.shape[1] // 2]


@torch.inference_mode()
def reference_of(score: Score, model: PreTrainedModel) -> Reference:
    """Read a candidate.

    Args:
        score: Its logits, as the search scores it.
        model: The dense model.
    """
    tokens = proof_tokens(model)
    half = tokens.shape[1] // 2
    room = min(WRITTEN, (position_count(model) or half + WRITTEN) - half)
    return Reference(tokens=tokens, logits=score(tokens), room=room)


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
    tree, backbone = PrefixTree(sorted_model, layer_builder), sorted_model.structure.backbone
    ((_, final),) = tree.walk(configurations[None], backbone.enter(tokens))
    return tree.ends.head_of(configurations)(final)


def proof_tokens(model: PreTrainedModel) -> Tensor:
    """Return random token ids ``(windows, tokens)`` to compare logits on."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    length = min(_TOKENS, position_count(model) or _TOKENS)
    return torch.randint(vocabulary, (_WINDOWS, length), generator=generator)
