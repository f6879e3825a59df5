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
from search_spaces.priors.sensitivity import Guess
from search_spaces.space.build import build_space
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace

if TYPE_CHECKING:
    from numpy.typing import NDArray


def save_ranking(path: Path, dense: DenseModel, orders: Orders, guess: Guess) -> None:
    """Write down orders, and what cuts are guessed to do."""
    arrays: dict[str, NDArray[Any]] = {}
    for position, block in enumerate(dense.structure.sub_blocks):
        harms = guess.units[position][orders[position]]
        arrays |= {
            block.name: orders[position],
            f"{block.name}.harm": harms.reshape(block.group_count, -1).sum(axis=0),
            f"{block.name}.variants": guess.variants[position],
        }
        if position in orders.channels:
            arrays[f"{block.name}.channels"] = orders.channels[position]
    if guess.tilts is not None:
        arrays["tilts"] = guess.tilts
    with replacing(path) as whole:
        np.savez(whole, allow_pickle=False, **arrays)


def saved_guess(path: Path, space: SearchSpace) -> Guess:
    """Read what cuts are guessed to do.

    Raises:
        RunError: Where the file does not say.
    """
    names = [block.name for block in space.sub_blocks]
    try:
        return _read_guess(path, names)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{path}` must hold what cuts were guessed to do, and does not: {error}; "
            "search again into another --out"
        ) from error


def _read_guess(path: Path, names: Sequence[str]) -> Guess:
    with np.load(path, allow_pickle=False) as saved:
        return Guess(
            units=tuple(saved[f"{name}.harm"] for name in names),
            # written under another name before there were other variants than patterns
            variants=tuple(
                saved[key if key in saved else f"{name}.patterns"]
                for name in names
                for key in [f"{name}.variants"]
            ),
            tilts=saved.get("tilts"),
        )


def ranked_space(
    dense: DenseModel, settings: SearchSettings, folder: Path, *, repair: str
) -> SearchSpace:
    """Lay out the space of a run whose ranking lies in its folder.

    Args:
        dense: The run's model, not sorted.
        settings: The run's settings.
        folder: The run's folder.
        repair: What its plans say of weights that are not the dense model's own.

    Raises:
        RunError: Where the ranking is missing or is another model's.
    """
    blocks = dense.structure.sub_blocks
    try:
        with (
            (folder / RANKING_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as saved,
        ):
            orders = Orders(
                members=tuple(saved[block.name] for block in blocks),
                channels={
                    position: saved[f"{block.name}.channels"]
                    for position, block in enumerate(blocks)
                    if f"{block.name}.channels" in saved
                },
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{folder}` must hold the ranking of its model, and {RANKING_FILE} does not: "
            f"{error}; search again into another --out"
        ) from error
    return build_space(
        dense.loaded.identity,
        blocks,
        orders,
        choices=settings.choices,
        mlp_step=settings.mlp_step,
        patterns=settings.patterns,
        repair=repair,
    )
