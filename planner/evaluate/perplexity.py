"""Perplexity of a model on windows of text: which text, and its likelihood window by window."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from evaluators.data.documents import read_documents
from evaluators.data.text_samples import LONGEST_TEXT, TextSource, Vocabulary, held_out_text
from planner.settings.evaluate import EvaluateSettings
from planner.settings.places import is_same_place
from search_spaces.errors import DataError, ModelError, SettingsError, quoted
from search_spaces.progress import Progress

DEFAULT_TOKENS = 512
"""In a window, of models that read so many."""
_OWN_TEXT = "sampled from the model"
_HELD_OUT = ", held out "
"""Between the names of two texts, as `TextSource` writes them."""


@dataclass(frozen=True, kw_only=True)
class EvaluationText:
    """Text that no decision on a model was based on."""

    text: str
    name: str
    """In words, as messages and reports call it."""


def evaluation_text(settings: EvaluateSettings, searched_on: str) -> EvaluationText:
    """Read the text to measure perplexity on.

    A model's own text is none: no other model can be better on it, and it is not the text that
    people write.

    Args:
        settings: Of the evaluation.
        searched_on: The text that an export was searched and fitted on, as its manifest names it;
            empty: the model is no such export.

    Raises:
        DataError: If it cannot be read.
        SettingsError: If there is none.
    """
    searched, _, held_out = searched_on.partition(_HELD_OUT)
    data, options = settings.data, {"split": settings.split, "column": settings.column}
    if data is None:
        if not searched_on or searched_on.startswith(_OWN_TEXT):
            whose = "was searched on its own" if searched_on else "names none"
            raise SettingsError(
                f"perplexity needs text that people wrote, and {quoted(settings.model)} {whose}; "
                "give some with `--data`, or tasks with `--tasks`"
            )
        data = held_out or searched
    if is_same_place(data, searched):
        if held_out:
            raise SettingsError(
                f"perplexity needs text that the export was not fitted on, got {quoted(data)}; "
                f"leave `--data` out, for {quoted(held_out)}, or give other text"
            )
        name = f"the second half of {quoted(data)}, whose first the export was fitted on"
        return EvaluationText(text=held_out_text(TextSource(data=data, **options)), name=name)
    documents = read_documents(data, **options)
    return EvaluationText(text="\n\n".join(documents), name=quoted(data))


def text_windows(
    text: EvaluationText, vocabulary: Vocabulary, shape: tuple[int, int], seed: int
) -> Tensor:
    """Draw windows of text that do not overlap, as many as there are up to a number.

    Args:
        text: The text.
        vocabulary: The models'.
        shape: Windows, and tokens in each.
        seed: Of the draw.

    Returns:
        ``(windows, tokens)``, in the order of the text.

    Raises:
        DataError: If there are fewer than two.
    """
    count, tokens = shape
    rng = np.random.default_rng(seed)
    start = int(rng.integers(max(1, len(text.text) - LONGEST_TEXT + 1)))
    ids = vocabulary.ids(text.text[start : start + LONGEST_TEXT], text.name)
    prefix = np.array(vocabulary.prefix(), dtype=np.int64)
    body = tokens - len(prefix)
    available = len(ids) // body if body > 0 else 0
    if available < 2:
        raise DataError(
            f"the text must hold two windows of {tokens} tokens or more, and {text.name} holds "
            f"{available}; give more text, or lower `--window_tokens`"
        )
    rows = ids[: available * body].reshape(available, body)
    chosen = np.sort(rng.choice(available, size=min(count, available), replace=False))
    starts = np.broadcast_to(prefix, (len(chosen), len(prefix)))
    return torch.from_numpy(np.concatenate([starts, rows[chosen]], axis=1))


def window_nlls(
    model: PreTrainedModel, name: str, windows: Tensor, progress: Progress
) -> NDArray[np.float64]:
    """Return the mean −log q of the next token in each window, in nats, ``(windows,)``.

    Args:
        model: Which gives q.
        name: Of the model, for the message.
        windows: Token ids ``(windows, tokens)``.
        progress: Advanced with the windows.

    Raises:
        ModelError: If one is no finite number.
    """
    nlls = []
    with torch.inference_mode():
        for done, window in enumerate(windows, 1):
            tokens = window[None].to(model.device)
            logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
            nlls.append(float(cross_entropy(logits, tokens[0, 1:])))
            if not math.isfinite(nlls[-1]):
                raise not_finite(name, f"that of window {done} is {nlls[-1]}")
            progress.advance(done, len(windows))
    return np.array(nlls)


def not_finite(name: str, got: str) -> ModelError:
    """Return what is said of a model that computes no numbers."""
    return ModelError(
        f"a model must give text a likelihood, and of {quoted(name)} {got}; try `--dtype "
        "float32`, or check its weights"
    )
