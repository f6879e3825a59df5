"""The text that plans of a run are healed on: the run's own or other text, but none held out."""

from torch import Tensor

from evaluators.data.documents import read_documents
from evaluators.data.text_identity import digest_of_text
from evaluators.data.text_samples import TextSource, Vocabulary, searched_text
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.healing.heal_text import HealText, Measured
from planner.runs.run_store import RunStore
from planner.settings.heal import HealSettings
from planner.settings.places import is_same_place
from planner.settings.search import SearchSettings
from search_spaces.errors import DataError, quoted

_PASSAGE_CHARACTERS = 80
"""So many in a row are hardly written twice by chance."""


def text_of_run(run: RunStore, prepared: PreparedModel, settings: HealSettings) -> HealText:
    """Return the text to heal a run's plans on, without what its plans are measured on.

    Raises:
        DataError: If there is none, or it is held out.
    """
    calibration, loaded = prepared.calibration, prepared.dense.loaded
    vocabulary = Vocabulary.of(loaded.model, loaded.tokenizer)
    data = settings.data or run.settings.data
    if data is None:
        raise DataError(
            "healing needs text, and this run's was written by the model itself; name some with "
            "`--data`"
        )
    if is_searched_text(run.settings, calibration.source_digests, settings):
        source = TextSource(
            data=data,
            holdout=run.settings.holdout,
            split=run.settings.split,
            column=run.settings.column,
        )
        documents = [searched_text(source)]
    else:
        documents = read_documents(data, split=settings.split, column=settings.column)
        check_not_held_out(documents, calibration.holdout, vocabulary, data)
    return text_to_heal(
        documents,
        data,
        vocabulary,
        [calibration.search, calibration.fresh, calibration.holdout],
        settings,
    )


def text_to_heal(
    documents: list[str],
    name: str,
    vocabulary: Vocabulary,
    measured: list[Tensor],
    settings: HealSettings,
) -> HealText:
    """Return documents as windows to train on.

    Args:
        documents: The text.
        name: Of it.
        vocabulary: The model's.
        measured: Windows ``(windows, tokens)`` that are measured on, of which no passage is used.
        settings: How long windows are, and their order.
    """
    return HealText(
        documents=documents,
        name=name,
        vocabulary=vocabulary,
        tokens=settings.window_tokens,
        measured=Measured(measured, prefix=max(1, len(vocabulary.prefix()))),
        seed=settings.seed,
    )


def fitted_to(settings: HealSettings, positions: int | None) -> HealSettings:
    """Return settings whose windows are no longer than a model reads."""
    shorter = min(settings.window_tokens, positions or settings.window_tokens)
    return settings.model_copy(update={"window_tokens": shorter})


def check_not_held_out(
    documents: list[str], holdout: Tensor, vocabulary: Vocabulary, data: str
) -> None:
    """Refuse text that holds the held-out windows.

    Raises:
        DataError: If it does.
    """
    text = _plain("\n\n".join(documents))
    found = 0
    for row in holdout:
        window = _plain(str(vocabulary.tokenizer.decode(row, skip_special_tokens=True)))
        middle = max(0, (len(window) - _PASSAGE_CHARACTERS) // 2)
        found += window[middle : middle + _PASSAGE_CHARACTERS] in text
    if 2 * found > len(holdout):
        raise DataError(
            f"`--data` must not be held-out text, by which healing is judged, and {quoted(data)} "
            "holds it; give other text, or leave it out to train on that of the run"
        )


def _plain(text: str) -> str:
    """Return text with its words spaced in one way."""
    return " ".join(text.split())


def is_searched_text(
    searched: SearchSettings, digests: tuple[str, ...], settings: HealSettings
) -> bool:
    """Return whether the text to train on is that which a run searched on.

    Args:
        searched: Settings of the run.
        digests: Of the files that its text was read from.
        settings: Say what to train on; another split of the same data set is other text.
    """
    if settings.data is None:
        return True
    if settings.split == searched.split and is_same_place(settings.data, searched.data):
        return True
    digest = digest_of_text(settings.data, split=settings.split)
    return bool(digest) and digest == next(iter(digests), "")
