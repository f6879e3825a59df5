"""The order of units, the prior and the step of a run on disk, and the space they lead to."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from planner.preparation.dense_model import DenseModel
from planner.preparation.space_of_settings import space_of_settings
from planner.runs.arrays import damaged_arrays, read_arrays
from planner.runs.folder import ORDER_FILE
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import replacing
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Order = NDArray[np.int_]

_DIGEST, _STEP = "digest", "mlp_step"


def save_order(
    path: Path,
    dense: DenseModel,
    orders: Orders,
    prior: SensitivityPrior,
    mlp_step: int | None = None,
) -> None:
    """Store the orders of units by importance, the sensitivity prior and the step of widths."""
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
    if prior.missed is not None:
        arrays["missed"] = prior.missed
    if mlp_step is not None:
        arrays[_STEP] = np.array(mlp_step)
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: "Mapping[str, NDArray[Any]]") -> None:
    """Write arrays with a digest of them, which `read_order` holds them against."""
    with replacing(path) as temporary:
        digest = np.array(_digest_of(arrays))
        np.savez(temporary, allow_pickle=False, **arrays, **{_DIGEST: digest})


def read_order(path: Path) -> "dict[str, NDArray[Any]]":
    """Return the arrays that `write_arrays` wrote.

    Raises:
        RunError: If they are missing, or not those that were written.
    """
    arrays = read_arrays(path)
    digest = arrays.pop(_DIGEST, None)
    if digest is None or str(digest) != _digest_of(arrays):
        raise damaged_arrays(path, "its numbers are not those that were written")
    return arrays


def order_digest(path: Path) -> str:
    """Return what identifies the order of units and the prior of a run.

    Raises:
        RunError: If they are missing or damaged.
    """
    return _digest_of(read_order(path))


def _digest_of(arrays: "Mapping[str, NDArray[Any]]") -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def load_prior(path: Path, space: SearchSpace) -> SensitivityPrior:
    """Read the sensitivity prior of a run.

    Raises:
        RunError: If the file does not hold one.
    """
    arrays = read_order(path)
    units, options = [], []
    for component, of_component in zip(space.components, space.block_options, strict=True):
        harm = arrays.get(f"{component.name}.harm")
        variants = arrays.get(f"{component.name}.variants")
        _check_numbers(path, harm, component.unit_count)
        _check_numbers(path, variants, len(of_component))
        units.append(harm)
        options.append(variants)
    tilts, missed = arrays.get("tilts"), arrays.get("missed")
    for of_components in (tilts, missed):
        if of_components is not None:
            _check_numbers(path, of_components, len(space.components))
    return SensitivityPrior(
        units=tuple(cast("list[Floats]", units)),
        options=tuple(cast("list[Floats]", options)),
        tilts=tilts,
        missed=missed,
    )


def _check_numbers(path: Path, numbers: "NDArray[Any] | None", count: int) -> None:
    if numbers is None or numbers.shape != (count,) or not _are_finite(numbers):
        raise damaged_arrays(path, "it holds no sensitivity prior of this model")


def _are_finite(numbers: "NDArray[Any]") -> bool:
    return numbers.dtype.kind == "f" and bool(np.isfinite(numbers).all())


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
        RunError: If the order is missing, damaged or another model's.
    """
    components, path = dense.structure.components, folder / ORDER_FILE
    arrays = read_order(path)
    members = [arrays.get(component.name) for component in components]
    channels = {
        position: arrays[f"{component.name}.channels"]
        for position, component in enumerate(components)
        if f"{component.name}.channels" in arrays
    }
    counts = [component.group_count * component.unit_count for component in components]
    are_orders = all(map(_is_order, members, counts)) and all(
        all(_is_order(order, order.size) for order in np.atleast_2d(orders))
        for orders in channels.values()
    )
    if not are_orders:
        raise damaged_arrays(path, "it holds no order of the units of this model")
    if _STEP in arrays and settings.mlp_step is None:
        settings = settings.model_copy(update={"mlp_step": int(arrays[_STEP])})
    orders = Orders(members=tuple(cast("list[Order]", members)), channels=channels)
    return space_of_settings(
        dense.loaded.identity,
        dense.structure,
        settings,
        orders,
        holds=dense.holds,
        weights_digest=weights_digest,
    )


def _is_order(order: "NDArray[Any] | None", count: int) -> bool:
    """Return whether an array holds each number below a count once."""
    return (
        order is not None
        and order.shape == (count,)
        and order.dtype.kind == "i"
        and bool(np.array_equal(np.sort(order), np.arange(count)))
    )
