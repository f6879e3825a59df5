"""A plan as strips, one a kind of choice, with a cell a layer: what pictures of it show."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from planner.results.plan_layers import options_of
from planner.runs.space_description import KEPT_WHOLE
from search_spaces.space.sparsity import SparsityPattern

if TYPE_CHECKING:
    import pandas as pd

_MOST_COUNTED = 999
"""Of more units a cell shows per cent: nobody compares 1,408 with 1,536 at a glance."""
DROPPED = "✕"
"""In a cell of which nothing is kept."""
STOOD_IN = "≈"
"""In a cell of which nothing is kept, and for which what is kept before it stands in."""
_DROPS = "dropped whole"
_KINDS = {"mlp": "MLP", "shared": "shared expert"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One layer in a strip."""

    layer: int
    share: float | None
    """How much is kept, 1 as in the dense model; `None`: there is nothing to choose."""
    text: str
    """The same in a few signs."""
    note: str
    """And in words."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One kind of choice over all layers, in their order."""

    name: str
    cells: tuple[Cell, ...]
    is_counted: bool = True
    """Whether shares are of something counted, and not for the colour alone."""


def layer_strips(frame: "pd.DataFrame") -> list[Strip]:
    """Return a plan as strips.

    Args:
        frame: What it keeps, as `RunPlan.layers` returns it.

    Returns:
        Of each kind of component its units; then its expert channels, top-k, sparsity and number
        formats, where any layer has others than the dense model; at last what is dropped whole.
        The embedding and the head have the column after the last layer's.
    """
    rows = frame.to_dict("records")
    layers = sorted({row["layer"] for row in rows})
    by_kind: dict[str, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        by_kind.setdefault(row["component"], {})[row["layer"]] = dict(row)  # type: ignore[arg-type]
    strips = []
    for kind, by_layer in by_kind.items():
        strips += list(_strips_of(kind, layers, by_layer))
    if any(row["kept"] == 0 for row in rows):
        cells = tuple(_drop_cell(layer, by_kind) for layer in layers)
        strips.append(Strip(name=_DROPS, cells=cells))
    return strips


def kind_name(kind: str) -> str:
    """Return what a kind of component is called in pictures."""
    return _KINDS.get(kind, kind)


def _strips_of(
    kind: str, layers: list[int], by_layer: Mapping[int, Mapping[str, Any]]
) -> Iterator[Strip]:
    """Yield the strips of one kind of component: units first."""
    unit = next(iter(by_layer.values()))["unit"]
    of = {row["of"] for row in by_layer.values()}
    name = kind_name(kind) if unit == kind else f"{kind_name(kind)}: {unit}"
    percent = "% " if max(of) > _MOST_COUNTED else ""
    name += f", {percent}of {of.pop() if len(of) == 1 else 'all'}"
    if unit != KEPT_WHOLE:
        yield _strip(name, layers, by_layer, _units)
    found = {option for row in by_layer.values() for option in options_of(row["options"])}
    for option, (label, cell) in _OPTIONS.items():
        if option in found:
            strip = _strip(f"{kind_name(kind)}: {label}", layers, by_layer, cell)
            yield replace(strip, is_counted=option not in {"format", "cache"})


def _strip(
    name: str,
    layers: list[int],
    by_layer: Mapping[int, Mapping[str, Any]],
    cell: Callable[[Mapping[str, Any]], tuple[float | None, str, str]],
) -> Strip:
    cells = []
    for layer in layers:
        share, text, note = cell(by_layer[layer]) if layer in by_layer else (None, "", "none here")
        cells.append(Cell(layer=layer, share=share, text=text, note=note))
    return Strip(name=name, cells=tuple(cells))


def _units(row: Mapping[str, Any]) -> tuple[float | None, str, str]:
    kept, of, unit = row["kept"], row["of"], row["unit"]
    if not kept:
        note = f"dropped, with all {of} {unit}"
        if before := options_of(row["options"]).get("stand_in"):
            return 0.0, STOOD_IN, f"{note}; {before} stands in for it"
        return 0.0, DROPPED, note
    text = str(kept) if of <= _MOST_COUNTED else f"{100 * kept / of:.0f}"
    return kept / of, text, f"{kept} of {of} {unit} kept"


def _count(option: str, noun: str) -> Callable[[Mapping[str, Any]], Any]:
    def cell(row: Mapping[str, Any]) -> tuple[float | None, str, str]:
        value = options_of(row["options"]).get(option)
        if value is None:
            return (1.0, "all", f"all {noun}") if row["kept"] else (None, "", "dropped")
        kept, _, of = value.partition(" of ")
        return int(kept) / int(of), kept, f"{kept} of {of} {noun}"

    return cell


def _sparsity(row: Mapping[str, Any]) -> tuple[float | None, str, str]:
    value = options_of(row["options"]).get("pattern")
    if value is None:
        return (1.0, "", "no zeros") if row["kept"] else (None, "", "dropped")
    density = SparsityPattern.parse(value).density
    return density, value, f"sparsity {value}: {density:.0%} of the weights are not zero"


def _format(row: Mapping[str, Any]) -> tuple[float | None, str, str]:
    value = options_of(row["options"]).get("format")
    if value is None:
        return (1.0, "", "stored as in the dense model") if row["kept"] else (None, "", "dropped")
    return 0.5, value, f"stored as {value}"


def _cache(row: Mapping[str, Any]) -> tuple[float | None, str, str]:
    value = options_of(row["options"]).get("cache")
    if value is None:
        return (1.0, "", "keys and values as usual") if row["kept"] else (None, "", "dropped")
    return 0.5, value, f"keys and values in {value}"


def _drop_cell(layer: int, by_kind: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Cell:
    """Return which components of a layer are dropped whole."""
    here = {kind: rows[layer]["kept"] for kind, rows in by_kind.items() if layer in rows}
    gone = [kind_name(kind) for kind, kept in here.items() if not kept]
    if not gone:
        return Cell(layer=layer, share=1.0, text="", note="no part is dropped")
    if len(gone) == len(here):
        return Cell(layer=layer, share=0.0, text="all", note="the whole layer is dropped")
    note = f"{' and '.join(gone)} dropped"
    return Cell(layer=layer, share=1 - len(gone) / len(here), text=gone[0][0].upper(), note=note)


_OPTIONS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {
    "channels": ("channels of each expert", _count("channels", "channels of each expert")),
    "top_k": ("experts for a token", _count("top_k", "experts run for a token")),
    "pattern": ("sparsity", _sparsity),
    "format": ("number format", _format),
    "cache": ("cache", _cache),
}
