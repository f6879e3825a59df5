"""The importance order and sensitivity prior of a run on disk, and the space they lead to."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.runs.folder import ORDER_FILE
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.errors import RunError
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.build import build_space
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray


def save_order(path: Path, dense: DenseModel, orders: Orders, prior: SensitivityPrior) -> None:
    """Store the orders of units by importance, and the sensitivity prior."""
    arrays: dict[str, NDArray[Any]] = {}
    for position, component in enumerate(dense.structure.components):
        sensitivities = prior.units[position][orders[position]]
        arrays |= {
            component.name: orders[position],
            f"{component.name}.harm": sensitivities.reshape(component.group_count, -1).sum(axis=0),
            f"{component.name}.variants": prior.options[position],
        }
        if position in orders.channels:
            arrays[f"{component.name}.channels"] = orders.channels[position]
    if prior.tilts is not None:
        arrays["tilts"] = prior.tilts
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_prior(path: Path, space: SearchSpace) -> SensitivityPrior:
    """Read the sensitivity prior of a run.

    Raises:
        RunError: If the file does not hold one.
    """
    names = [component.name for component in space.components]
    try:
        return _read_prior(path, names)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{path}` must hold the sensitivity prior of its run, and does not: {error}; "
            "search again into another --out"
        ) from error


def _read_prior(path: Path, names: Sequence[str]) -> SensitivityPrior:
    with np.load(path, allow_pickle=False) as arrays:
        return SensitivityPrior(
            units=tuple(arrays[f"{name}.harm"] for name in names),
            # `patterns` before there were other options than sparsity patterns
            options=tuple(
                arrays[key if key in arrays else f"{name}.patterns"]
                for name in names
                for key in [f"{name}.variants"]
            ),
            tilts=arrays.get("tilts"),
        )


def load_space(
    dense: DenseModel, settings: SearchSettings, folder: Path, *, weights_digest: str
) -> SearchSpace:
    """Build the search space of a run from the order of units in its folder.

    Args:
        dense: The run's model, not sorted.
        settings: The run's settings.
        folder: The run's folder.
        weights_digest: Identifies how pruned weights are built, as `weights_digest_of` returns it.

    Raises:
        RunError: If the order is missing or another model's.
    """
    components = dense.structure.components
    try:
        with (
            (folder / ORDER_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            orders = Orders(
                members=tuple(arrays[component.name] for component in components),
                channels={
                    position: arrays[f"{component.name}.channels"]
                    for position, component in enumerate(components)
                    if f"{component.name}.channels" in arrays
                },
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{folder}` must hold the unit order of its model, and {ORDER_FILE} does not: "
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
