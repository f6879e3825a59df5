"""Collecting statistics of every layer, from files as far as they hold them already."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
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
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)

REMOVAL_WINDOWS = 4
"""Windows on which layers, components and experts are removed one by one."""


def collect_statistics(  # noqa: PLR0913 - one place for all that decides what is measured
    structure: ModelStructure,
    windows: Tensor,
    names: frozenset[StatisticName],
    *,
    folder: Path | None = None,
    identity: str = "",
    batch_tokens: int = 4096,
    removal_windows: int = REMOVAL_WINDOWS,
    progress: Progress = NO_PROGRESS,
) -> tuple[Statistics, ...]:
    """Measure the layers of a dense model, one after another.

    The hidden states of all windows are held, and the weights and activations of one layer.
    Gradients take a pass of their own over the whole model, window by window, and those of all
    layers are held until each is done.

    Args:
        structure: The dense model, not permuted yet.
        windows: Token ids ``(windows, tokens)``.
        names: Statistics to collect; ``tokens`` and ``hidden_energy`` are always collected too.
        folder: Where each layer's statistics are written as soon as it is done, and read again;
            None: they stay in memory.
        identity: The model's fingerprint: files of another one are computed again.
        batch_tokens: Tokens run at once.
        removal_windows: Number of first windows on which ``removal_nll`` and
            ``expert_acceptance`` are measured.
        progress: Advanced after each layer.

    Returns:
        The statistics of each layer, in float32 on the CPU; with a folder they are mapped from the
        files and not held.

    Raises:
        DataError: If gradients or removals are asked of windows without a next token.
        ModelError: If gradients are asked of a streamed model, or numbers overflow or vanish.
        OutputError: If the folder cannot be written to; no file is half-written.
    """
    _check_windows(windows, names)
    layer_count = len(structure.layers)
    files = None
    by_layer: dict[int, Statistics] = {}
    if folder is not None:
        digest = digest_of(windows, names, removal_windows, identity)
        files = StatisticsFiles(folder, digest)
        by_layer = files.load(structure, names)
    missing = [index for index in range(layer_count) if index not in by_layer]
    if missing:
        whole_model = _whole_model(structure, windows, names, removal_windows, missing)
        for index, measured in measure_layers(structure, windows, names, missing, batch_tokens):
            statistics = measured | whole_model.pop(index, {})
            _check_numbers(index, statistics)
            by_layer[index] = statistics if files is None else files.save(index, statistics)
            progress.advance(index + 1, layer_count)
    everything = tuple(by_layer[index] for index in range(layer_count))
    _warn_of_unrouted(structure, everything)
    return everything


def stored_statistics(
    structure: ModelStructure,
    windows: Tensor,
    names: frozenset[StatisticName],
    folder: Path,
    identity: str,
) -> tuple[Statistics, ...] | None:
    """Return what `collect_statistics` wrote to a folder; none if some of it is missing.

    Args:
        structure: The model, in whatever order of units.
        windows: Those that were collected from.
        names: Statistics that were collected.
        folder: Where the files lie.
        identity: The model's fingerprint.
    """
    files = StatisticsFiles(folder, digest_of(windows, names, REMOVAL_WINDOWS, identity))
    by_layer = files.load(structure, names)
    if len(by_layer) < len(structure.layers):
        return None
    return tuple(by_layer[index] for index in sorted(by_layer))


def _check_numbers(index: int, statistics: Statistics) -> None:
    """Refuse what would make importances and sensitivities infinite or undefined."""
    for (name, path), value in statistics.items():
        if not bool(torch.isfinite(value).all()):
            place = f"`{path}` of layer {index}" if path else f"layer {index}"
            raise ModelError(
                f"what goes through a model must be finite, squared and summed in float32, and "
                f"{name} at {place} is not: hidden states or weights overflow; set "
                "`--dtype float32`, or get a sound checkpoint"
            )
    # below it a number loses its digits, and what is divided by it its meaning
    if float(statistics["hidden_energy", ""]) < torch.finfo(torch.float32).tiny:
        raise ModelError(
            f"hidden states must not vanish, and those that enter layer {index} are zero, or so "
            "small that float32 cannot hold their squares; get a sound checkpoint"
        )


def _warn_of_unrouted(structure: ModelStructure, statistics: Sequence[Statistics]) -> None:
    """Warn of layers with experts that no token was routed to."""
    unrouted = {}
    for mixture in mixtures_of(structure.components):
        frequency = statistics[mixture.layer].get(("expert_frequency", mixture.holder))
        count = 0 if frequency is None else int((frequency <= 0).sum())
        if count:
            unrouted[mixture.layer] = f"{count} of {mixture.member_count} in layer {mixture.layer}"
    if unrouted:
        logger.warning(
            "the calibration text routes no token to some experts, which are pruned first: %s; "
            "give longer or other `--data` if they should count",
            ", ".join(unrouted.values()),
        )


def _check_windows(windows: Tensor, names: frozenset[StatisticName]) -> None:
    if not windows.numel() or (windows.shape[1] < 2 and names & (BY_GRADIENT | OF_REMOVAL)):
        raise DataError(
            "statistics need windows of calibration text of at least two tokens, got "
            f"{windows.shape[0]} of {windows.shape[1]}; give longer `--data`"
        )


def _whole_model(
    structure: ModelStructure,
    windows: Tensor,
    names: frozenset[StatisticName],
    removal_windows: int,
    missing: Iterable[int],
) -> dict[int, dict[Key, Tensor]]:
    """Collect, by layer, what takes passes through the whole model."""
    by_layer: dict[int, dict[Key, Tensor]] = {index: {} for index in missing}
    if by_gradient := names & BY_GRADIENT:
        if structure.backbone.streamed:
            raise ModelError(
                "a model that is streamed from disk has no gradients, for they need all layers "
                f"at once, and {', '.join(f'`{name}`' for name in sorted(by_gradient))} was asked "
                "for; set `--offload never` on a machine with more memory, or choose importances "
                "and sparsifiers without gradients"
            )
        gradients = measure_gradients(structure, windows, by_gradient, by_layer)
        for index, measured in gradients.items():
            by_layer[index] |= measured
    by_removal = _by_removal(structure, windows[:removal_windows], names)
    for index, measured in by_layer.items():
        measured.update(by_removal.get(index, {}))
    return by_layer


def _by_removal(
    structure: ModelStructure, windows: Tensor, names: frozenset[StatisticName]
) -> dict[int, dict[Key, Tensor]]:
    """Measure, by layer, the effect of removing each part alone."""
    by_layer: dict[int, dict[Key, Tensor]] = {}
    if names & OF_REMOVAL:
        by_layer |= dict(enumerate(measure_removals(structure, windows)))
    if names & OF_EXPERT_REMOVAL:
        for index, measured in measure_expert_removals(structure, windows).items():
            by_layer[index] = by_layer.get(index, {}) | measured
    return by_layer
