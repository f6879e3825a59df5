"""Collecting what is wanted of every layer, from files as far as they hold it already."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor

from evaluators.collectors.activations import measure_layers
from evaluators.collectors.gradients import measure_gradients
from evaluators.collectors.leave_one_expert_out import measure_expert_removals
from evaluators.collectors.leave_one_out import measure_removals
from evaluators.collectors.names import BY_GRADIENT, OF_EXPERT_REMOVAL, OF_REMOVAL, Key
from evaluators.collectors.statistics_files import StatisticsFiles, digest_of
from search_spaces.errors import DataError, ModelError
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)

REMOVAL_WINDOWS = 4
"""Windows on which layers, components and experts are removed one by one."""


def collect_statistics(  # noqa: PLR0913 - one place for all that decides what is measured
    structure: ModelStructure,
    windows: Tensor,
    wanted: frozenset[StatisticName],
    *,
    folder: Path | None = None,
    identity: str = "",
    batch_tokens: int = 4096,
    removal_windows: int = REMOVAL_WINDOWS,
    progress: Progress = NO_PROGRESS,
) -> tuple[Statistics, ...]:
    """Measure the layers of a dense model, one after another.

    The hidden states of all windows are held, and the weights and activations of one layer. What
    needs gradients takes a pass of its own over the whole model, window by window, and holds the
    gradients of all layers until each is done.

    Args:
        structure: The dense model, not permuted yet.
        windows: Token ids ``(windows, tokens)``.
        wanted: Names; ``tokens`` and ``hidden_energy`` always come too.
        folder: Where each layer's statistics are written as soon as it is done, and found again;
            none: they stay in memory.
        identity: The model's fingerprint: files of another one are made again.
        batch_tokens: Tokens run at once.
        removal_windows: Windows, the first ones, on which ``removal_nll`` and
            ``expert_acceptance`` are measured.
        progress: Told how many of how many layers are done.

    Returns:
        Of each layer what was wanted, in float32 on the CPU; with a folder it is mapped from the
        files and not held.

    Raises:
        DataError: Where gradients or removals are wanted of windows without a next token.
        ModelError: Where gradients are wanted of a streamed model.
        OutputError: Where the folder cannot be written to; no file is half-written.
    """
    _check_windows(windows, wanted)
    of = len(structure.layers)
    files = None
    found: dict[int, Statistics] = {}
    if folder is not None:
        digest = digest_of(windows, wanted, removal_windows, identity)
        files = StatisticsFiles(folder, digest)
        found = files.load(structure, wanted)
    missing = [index for index in range(of) if index not in found]
    if missing:
        beside = _whole_model(structure, windows, wanted, removal_windows, missing)
        for index, measured in measure_layers(structure, windows, wanted, missing, batch_tokens):
            statistics = measured | beside.pop(index, {})
            found[index] = statistics if files is None else files.save(index, statistics)
            progress.advance(index + 1, of)
    everything = tuple(found[index] for index in range(of))
    _tell_unrouted(structure, everything)
    return everything


def kept_statistics(
    structure: ModelStructure,
    windows: Tensor,
    wanted: frozenset[StatisticName],
    folder: Path,
    identity: str,
) -> tuple[Statistics, ...] | None:
    """Give what `collect_statistics` left in a folder; none: not all of it is there.

    Args:
        structure: The model, in whatever order of units.
        windows: As they were then, and so below.
        wanted: Names.
        folder: Where the files lie.
        identity: The model's fingerprint.
    """
    files = StatisticsFiles(folder, digest_of(windows, wanted, REMOVAL_WINDOWS, identity))
    found = files.load(structure, wanted)
    return (
        tuple(found[index] for index in sorted(found))
        if len(found) == len(structure.layers)
        else None
    )


def _tell_unrouted(structure: ModelStructure, statistics: Sequence[Statistics]) -> None:
    """Warn which layers have experts that no token was sent to."""
    unrouted = {}
    for component in structure.components:
        own = statistics[component.layer]
        if component.experts and ("expert_frequency", component.experts.holder) in own:
            frequency = own["expert_frequency", component.experts.holder]
            if count := int((frequency <= 0).sum()):
                unrouted[component.layer] = (
                    f"{count} of {len(frequency)} in layer {component.layer}"
                )
    if unrouted:
        logger.warning(
            "the calibration text sends no token to some experts, which are ranked last: %s; "
            "give longer or other `--data` if they should count",
            ", ".join(unrouted.values()),
        )


def _check_windows(windows: Tensor, wanted: frozenset[StatisticName]) -> None:
    if not windows.numel() or (windows.shape[1] < 2 and wanted & (BY_GRADIENT | OF_REMOVAL)):
        raise DataError(
            "statistics need windows of calibration text of at least two tokens, got "
            f"{windows.shape[0]} of {windows.shape[1]}; give longer `--data`"
        )


def _whole_model(
    structure: ModelStructure,
    windows: Tensor,
    wanted: frozenset[StatisticName],
    removal_windows: int,
    missing: Iterable[int],
) -> dict[int, dict[Key, Tensor]]:
    """Give by layer what takes the whole model."""
    found: dict[int, dict[Key, Tensor]] = {index: {} for index in missing}
    if by_gradient := wanted & BY_GRADIENT:
        if structure.backbone.streamed:
            raise ModelError(
                "a model that is streamed from disk has no gradients, for they need all layers "
                f"at once, and {', '.join(f'`{name}`' for name in sorted(by_gradient))} was asked "
                "for; set `--offload never` on a machine with more memory, or choose a ranking or "
                "sparsifier without gradients"
            )
        for index, gradients in measure_gradients(structure, windows, by_gradient, found).items():
            found[index] |= gradients
    by_removal = _by_removal(structure, windows[:removal_windows], wanted)
    for index, measured in found.items():
        measured.update(by_removal.get(index, {}))
    return found


def _by_removal(
    structure: ModelStructure, windows: Tensor, wanted: frozenset[StatisticName]
) -> dict[int, dict[Key, Tensor]]:
    """Give by layer what parts are missed for, each removed alone."""
    found: dict[int, dict[Key, Tensor]] = {}
    if wanted & OF_REMOVAL:
        found |= dict(enumerate(measure_removals(structure, windows)))
    if wanted & OF_EXPERT_REMOVAL:
        for index, measured in measure_expert_removals(structure, windows).items():
            found[index] = found.get(index, {}) | measured
    return found
