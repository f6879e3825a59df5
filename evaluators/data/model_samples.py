"""Windows of tokens that the dense model writes itself, many at a time."""

import logging
import math
import time

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel

from evaluators.data.one_query_attention import OneQueryAttention
from evaluators.data.windows import Calibration, Windows
from search_spaces.errors import DataError, ModelError, quoted
from search_spaces.models.on_disk.vocabulary import embedding_rows
from search_spaces.progress import NO_PROGRESS, Progress

logger = logging.getLogger(__name__)

BATCH_BYTES = 2**29
"""Bound on the keys, values and probabilities of the windows that are written at once."""
MOST_AT_ONCE = 256
"""Windows written at once: from there on arithmetic takes the time, and not reading weights."""
_STRETCH = 256
"""Tokens of the vocabulary that are drawn from together at first."""
MOST_TRIES = 2
"""Windows sampled for each that is asked for, before a model is said to repeat itself."""


def from_model(
    model: PreTrainedModel,
    windows: Windows,
    *,
    seed: int,
    seconds: float = math.inf,
    progress: Progress = NO_PROGRESS,
) -> Calibration:
    """Sample windows from the dense model itself, from its first token on, at temperature 1.

    Pruned by Wanda to half its weights on such text, SmolLM2-135M is as good as on C4
    (WikiText-2 perplexity 46.4 against 47.8, where differences under 2 are noise).

    Args:
        model: The dense model.
        windows: How many, and how long.
        seed: Of the sampling.
        seconds: After which no more windows are written than are needed.
        progress: Advanced with the tokens drawn.

    Raises:
        DataError: If the model writes the same again and again.
        ModelError: If its config names no token to begin with, or its logits are not finite.
    """
    parts = [windows.search, windows.fresh, windows.holdout, windows.needed_statistics]
    needed, total = sum(parts), sum(parts) + windows.spare
    drawn: dict[bytes, Tensor] = {}  # in order, each once
    sampled, started = 0, time.monotonic()
    writer = _Writer(model, windows.tokens, seed, progress)
    while len(drawn) < total and sampled < MOST_TRIES * total:
        asked = (needed if len(drawn) < needed else total) - len(drawn)
        rows = writer.write(asked, done=len(drawn), total=total)
        drawn |= {row.numpy().tobytes(): row for row in rows}
        sampled += len(rows)
        spent = time.monotonic() - started
        in_time = int((seconds - spent) * sampled / spent) if seconds < math.inf else total
        total = min(total, max(needed, len(drawn) + in_time))
    if len(drawn) < needed:
        raise DataError(
            f"the model's own text must differ from window to window, and of {sampled} windows "
            f"that it wrote only {len(drawn)} do; give text with `--data`"
        )
    if sampled > len(drawn):
        logger.info("%d windows that the model wrote twice are left out", sampled - len(drawn))
    search, fresh, holdout, statistics = torch.split(
        torch.stack([*drawn.values()]), [*parts[:3], len(drawn) - sum(parts[:3])]
    )
    return Calibration(
        statistics=statistics,
        search=search,
        fresh=fresh,
        holdout=holdout,
        source=f"sampled from the model, seed {seed}",
    )


class _Writer:
    """Lets a model write windows of one length, whatever its own settings of generation are.

    Args:
        model: The model.
        tokens: In a window.
        seed: Of what is drawn.
        progress: Advanced with the tokens drawn.
    """

    def __init__(self, model: PreTrainedModel, tokens: int, seed: int, progress: Progress) -> None:
        self._model = model
        self._tokens = tokens
        self._progress = progress
        self._first, self._ends = _first_and_ends(model)
        self._rng = torch.Generator().manual_seed(seed)
        self._most = max(1, min(MOST_AT_ONCE, BATCH_BYTES // _bytes_of_window(model, tokens)))

    @torch.inference_mode()
    def write(self, count: int, *, done: int, total: int) -> Tensor:
        """Write up to so many windows.

        Args:
            count: How many.
            done: Windows that are written already.
            total: Windows that there are to be.

        Returns:
            ``(windows, tokens)`` on the CPU.
        """
        count = min(count, self._most)
        device = self._model.device
        windows = torch.full((count, self._tokens), self._first, device=device)
        cache = None
        for position in range(1, self._tokens):
            start = 0 if cache is None else position - 1  # of a model without a cache it is all
            with OneQueryAttention():
                output = self._model(
                    input_ids=windows[:, start:position], past_key_values=cache, use_cache=True
                )
            cache = output.past_key_values
            windows[:, position] = self._draw(output.logits[:, -1].to(torch.float32, copy=True))
            written = done * self._tokens + count * (position + 1)
            self._progress.advance(written, total * self._tokens)
        return windows.cpu()

    def _draw(self, logits: Tensor) -> Tensor:
        """Draw the next token of each window by its logits ``(windows, vocabulary)``, a copy."""
        logits[:, self._ends] = -torch.inf
        weights = logits.sub_(logits.amax(dim=-1, keepdim=True)).exp_()
        # a stretch of the vocabulary, then a token in it: summing is quicker than running sums
        if rest := -weights.shape[1] % _STRETCH:
            weights = pad(weights, (0, rest))
        stretches = weights.view(len(weights), -1, _STRETCH)
        stretch = self._by_weight(stretches.sum(dim=-1))
        rows = torch.arange(len(stretch), device=stretch.device)
        return stretch * _STRETCH + self._by_weight(stretches[rows, stretch])

    def _by_weight(self, weights: Tensor) -> Tensor:
        """Draw one of some choices in each row, by their weights ``(rows, choices)``.

        Raises:
            ModelError: If these are no numbers.
        """
        below = weights.cumsum(dim=-1)
        all_of_it = below[:, -1:]
        if not bool(torch.isfinite(all_of_it).all()):
            raise ModelError(
                "logits must be finite, and the model gives others for text of its own; load it "
                "with `--dtype float32`, or get a sound checkpoint"
            )
        drawn = torch.rand(len(weights), 1, generator=self._rng).to(weights.device) * all_of_it
        drawn = drawn.minimum(all_of_it.nextafter(torch.zeros_like(all_of_it)))
        return torch.searchsorted(below, drawn, right=True)[:, 0]


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


def _bytes_of_window(model: PreTrainedModel, tokens: int) -> int:
    """Estimate what writing one window holds: keys and values, and a few rows of probabilities."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 1
    share = (getattr(config, "num_key_value_heads", None) or heads) / heads
    values = 2 * getattr(config, "num_hidden_layers", 1) * getattr(config, "hidden_size", 1)
    return int(tokens * values * share * model.dtype.itemsize) + 16 * embedding_rows(model)
