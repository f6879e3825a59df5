"""Windows of tokens to search and report on, sampled from the dense model itself."""

import logging
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from evaluators.data.windows import Calibration, Windows
from search_spaces.errors import DataError, ModelError, quoted
from search_spaces.models.on_disk.vocabulary import embedding_rows
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

SAMPLED_AT_ONCE = 32
"""Sequences sampled from the model in one batch."""
MOST_TRIES = 2
"""Windows sampled for each that is asked for, before a model is said to repeat itself."""


def from_model(
    model: PreTrainedModel, windows: Windows, *, seed: int, progress: Progress = NO_PROGRESS
) -> Calibration:
    """Sample windows from the dense model itself, from its first token on, at temperature 1.

    Pruned by Wanda to half its weights on such text, SmolLM2-135M is as good as on C4
    (WikiText-2 perplexity 46.4 against 47.8, where differences under 2 are noise).

    Args:
        model: The dense model.
        windows: How many, and how long.
        seed: Of the sampling.
        progress: Advanced with the tokens drawn.

    Raises:
        DataError: If the model writes the same again and again.
        ModelError: If its config names no token to begin with, or its logits are not finite.
    """
    first, ends = _first_and_ends(model)
    parts = [windows.search, windows.fresh, windows.holdout, windows.extra]
    total, sampled = sum(parts), 0
    drawn: dict[bytes, Tensor] = {}  # in order, each once
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        while len(drawn) < total and sampled < MOST_TRIES * total:
            count = min(SAMPLED_AT_ONCE, total - len(drawn))
            counter = _TokenCounter(len(drawn), total, windows.tokens, progress)
            rows = _sample(model, first, ends, (count, windows.tokens), counter).cpu()
            drawn |= {row.numpy().tobytes(): row for row in rows}
            sampled += count
    if len(drawn) < total:
        raise DataError(
            f"the model's own text must differ from window to window, and of {sampled} windows "
            f"that it wrote only {len(drawn)} do; give text with `--data`"
        )
    if sampled > total:
        logger.info("%d windows that the model wrote twice are left out", sampled - total)
    search, fresh, holdout, extra = torch.split(torch.stack([*drawn.values()]), parts)
    return Calibration(
        search=search,
        fresh=fresh,
        holdout=holdout,
        extra=extra,
        source=f"sampled from the model, seed {seed}",
    )


def _first_and_ends(model: PreTrainedModel) -> tuple[int, list[int]]:
    """Return the token that text begins with, and those that end it, which are never drawn.

    Raises:
        ModelError: If the config names no first token, or one that the model does not know.
    """
    config = model.config.get_text_config()
    rows = embedding_rows(model)
    ends = config.eos_token_id
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    name, first = "bos_token_id", config.bos_token_id
    if first is None:
        name, first = "eos_token_id", ends[0] if ends else None
    if type(first) is not int or not 0 <= first < rows:
        raise ModelError(
            f"`{name}` of the config must be one of the embedding's {rows} rows, for the model's "
            f"own text begins with it, got {quoted(str(first), 40)}; mend `config.json`, or give "
            "text with `--data`"
        )
    return first, [end for end in ends if type(end) is int and 0 <= end < rows]


def _sample(
    model: PreTrainedModel,
    first: int,
    ends: list[int],
    shape: tuple[int, int],
    counter: "_TokenCounter",
) -> Tensor:
    """Return token ids that a model draws, whatever its own settings of generation are."""
    count, length = shape
    prompt = torch.full((count, 1), first, device=model.device)
    make: Any = GenerationConfig
    settings = make(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        bos_token_id=first,
        eos_token_id=ends or None,
        pad_token_id=first,  # never used, as no row ends early
        min_new_tokens=length - 1,  # the end of text is never drawn
        max_new_tokens=length - 1,
    )
    own = model.generation_config
    model.generation_config = make()  # `generate` takes from it what ours leaves open
    try:
        drawn = type(model).generate(  # type: ignore[attr-defined]  # no code from its folder
            model,
            prompt,
            generation_config=settings,
            attention_mask=torch.ones_like(prompt),
            logits_processor=LogitsProcessorList([_Finite()]),
            stopping_criteria=StoppingCriteriaList([counter]),
        )
    finally:
        model.generation_config = own
    assert isinstance(drawn, Tensor)
    return drawn


class _Finite(LogitsProcessor):
    """Changes nothing; refuses what cannot be drawn from."""

    def __call__(self, _input_ids: Tensor, scores: Tensor) -> Tensor:
        if not bool(torch.isfinite(scores.logsumexp(dim=-1)).all()):
            raise ModelError(
                "logits must be finite, and the model gives others for text of its own; load it "
                "with `--dtype float32`, or get a sound checkpoint"
            )
        return scores


class _TokenCounter(StoppingCriteria):
    """Never stops; counts the tokens drawn."""

    def __init__(self, start: int, total: int, length: int, progress: Progress) -> None:
        self._start, self._total, self._length = start, total, length
        self._progress = progress

    def __call__(self, input_ids: Tensor, *_: object, **_options: object) -> Tensor:
        rows, length = input_ids.shape
        drawn = self._start * self._length + rows * length
        self._progress.advance(drawn, self._total * self._length)
        return torch.zeros(rows, dtype=torch.bool, device=input_ids.device)
