"""The ranking of a run on disk, and the space that follows from it."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.runs.folder import RANKING_FILE
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.errors import RunError
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.build import build_space
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray


def save_ranking(path: Path, dense: DenseModel, orders: Orders, prior: SensitivityPrior) -> None:
    """Write down orders, and what cuts are guessed to do."""
    arrays: dict[str, NDArray[Any]] = {}
    for position, component in enumerate(dense.structure.components):
        sensitivities = prior.units[position][orders[position]]
        arrays |= {
            component.name: orders[position],
            f"{component.name}.harm": sensitivities.reshape(component.group_count, -1).sum(axis=0),
            f"{component.name}.variants": prior.block_options[position],
        }
        if position in orders.channels:
            arrays[f"{component.name}.channels"] = orders.channels[position]
    if prior.tilts is not None:
        arrays["tilts"] = prior.tilts
    with replacing(path) as whole:
        np.savez(whole, allow_pickle=False, **arrays)


def saved_prior(path: Path, space: SearchSpace) -> SensitivityPrior:
    """Read what cuts are guessed to do.

    Raises:
        RunError: Where the file does not say.
    """
    names = [component.name for component in space.components]
    try:
        return _read_guess(path, names)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{path}` must hold what cuts were guessed to do, and does not: {error}; "
            "search again into another --out"
        ) from error


def _read_guess(path: Path, names: Sequence[str]) -> SensitivityPrior:
    with np.load(path, allow_pickle=False) as saved:
        return SensitivityPrior(
            units=tuple(saved[f"{name}.harm"] for name in names),
            # written under another name before there were other variants than patterns
            block_options=tuple(
                saved[key if key in saved else f"{name}.patterns"]
                for name in names
                for key in [f"{name}.variants"]
            ),
            tilts=saved.get("tilts"),
        )


def ranked_space(
    dense: DenseModel, settings: SearchSettings, folder: Path, *, weights_digest: str
) -> SearchSpace:
    """Lay out the space of a run whose ranking lies in its folder.

    Args:
        dense: The run's model, not sorted.
        settings: The run's settings.
        folder: The run's folder.
        weights_digest: What its plans say of weights that are not the dense model's own.

    Raises:
        RunError: Where the ranking is missing or is another model's.
    """
    components = dense.structure.components
    try:
        with (
            (folder / RANKING_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as saved,
        ):
            orders = Orders(
                members=tuple(saved[component.name] for component in components),
                channels={
                    position: saved[f"{component.name}.channels"]
                    for position, component in enumerate(components)
                    if f"{component.name}.channels" in saved
                },
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{folder}` must hold the ranking of its model, and {RANKING_FILE} does not: "
            f"{error}; search again into another --out"
        ) from error
    return build_space(
        dense.loaded.identity,
        components,
        orders,
        choices=settings.choices,
        mlp_step=settings.mlp_step,
        patterns=settings.patterns,
        weights_digest=weights_digest,
    )
