"""Pictures of fronts for papers and folders, by matplotlib: the series that pages show."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from planner.figures.figure_axes import SPLITS, Axis
from planner.figures.figure_style import PALETTES
from planner.figures.front_points import FrontPoints
from planner.figures.front_traces import RunTraces, Scene, Trace
from planner.run import Run
from search_spaces.atomic_files import replacing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PictureFormat = Literal["png", "svg", "pdf"]

MADE_BY = "compression-planner"
"""Stands in the files, which says that they may be made anew."""
_CREATORS = {"png": "Software", "svg": "Creator", "pdf": "Creator"}
"""What a file calls the program that made it."""
_FONTS: Any = {"pdf.fonttype": 42, "svg.fonttype": "none"}
"""Letters stay letters, which publishers ask for and readers can search."""
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_SYMBOLS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "x-thin": "x",
    "cross-thin": "+",
    "asterisk": "*",
}
_OPEN = "-open"
_HEADROOM = 1.15
_LEAST_TOP = 0.01
"""Of the axis of KL, so that a front of next to nothing is not drawn as a mountain."""


def draw_front(run: Run, path: Path, picture_format: PictureFormat = "png") -> None:
    """Draw KL against the first cost: all scored plans, and the front with its errors.

    Args:
        run: The run.
        path: File to write.
        picture_format: Of the file, whatever its name is.
    """
    # Figure and not pyplot: no global state, no window
    from matplotlib import rc_context  # noqa: PLC0415  (a second, and only pictures need it)
    from matplotlib.figure import Figure  # noqa: PLC0415  (as above)

    points = FrontPoints.of(run, Path(run.settings.model).name)
    scene = _scene(points)
    with rc_context(_FONTS):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _draw_run(axes, RunTraces(points=points, scene=scene, position=0))
        axes.set_xlabel(scene.x.label)
        axes.set_ylabel(scene.y.label)
        axes.set_ylim(bottom=0, top=_HEADROOM * max(_highest(points, scene), _LEAST_TOP))
        draw_title(axes, f"{points.name}: {points.cost_names[0]} against quality")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        with replacing(path) as temporary:
            figure.savefig(
                temporary,
                format=picture_format,
                dpi=120,
                metadata={_CREATORS[picture_format]: MADE_BY},
            )


def _scene(points: FrontPoints) -> Scene:
    return Scene(
        x=Axis.of(f"{points.cost_names[0]}_x", points.dense),
        y=Axis.of("kl", points.dense),
        colour=None,
        splits=tuple(SPLITS),
        theme="light",
        is_single=True,
    )


def _highest(points: FrontPoints, scene: Scene) -> float:
    """Return the highest KL of the front on any text."""
    rows = points.rows_of_kind("front")
    found = np.concatenate([scene.y.values(points, split)[rows] for split in scene.splits])
    return float(np.max(found[np.isfinite(found)], initial=0.0))


def _draw_run(axes: "Axes", traces: RunTraces) -> None:
    palette = PALETTES[traces.scene.theme]
    for trace in traces.clouds():
        count = trace["meta"]["plans"]
        name = trace["name"] if len(trace["x"]) < count else f"{trace['name']} ({count:,})"
        axes.scatter(trace["x"], trace["y"], s=8, color=palette.faint, alpha=0.45, label=name)
    for trace in traces.fronts():
        if "fill" in trace:
            axes.fill(trace["x"], trace["y"], facecolor=_colour(trace["fillcolor"]), linewidth=0)
        else:
            _draw_line(axes, trace)
    for trace in traces.baselines():
        marker = trace["marker"]
        axes.plot(trace["x"], trace["y"], _SYMBOLS[marker["symbol"]], color=marker["color"],
                  markersize=9, label=trace["name"] if trace["showlegend"] else None)  # fmt: skip
    dense = traces.scene.x.dense_value(traces.points), traces.scene.y.dense_value(traces.points)
    axes.plot(*[[place] for place in dense], "s", color=palette.text, markerfacecolor="none",
              markersize=8, label="dense model")  # fmt: skip


def _colour(css: str) -> tuple[float, ...]:
    """Return a colour as matplotlib takes it.

    >>> _colour("rgba(255,0,51,0.14)")
    (1.0, 0.0, 0.2, 0.14)
    """
    red, green, blue, share = map(float, css.removeprefix("rgba(").removesuffix(")").split(","))
    return red / 255, green / 255, blue / 255, share


def _draw_line(axes: "Axes", trace: Trace) -> None:
    """Draw a front on one text, with the bars of its errors if it has any."""
    line, marker = trace["line"], trace["marker"]
    shape: dict[str, Any] = {
        "color": line["color"],
        "linestyle": _DASHES[line["dash"]],
        "linewidth": line["width"],
        "marker": _SYMBOLS[marker["symbol"].removesuffix(_OPEN)],
        "markersize": 4,
        "markerfacecolor": "none" if marker["symbol"].endswith(_OPEN) else line["color"],
        "label": trace["name"],
    }
    axes.plot(trace["x"], trace["y"], **shape)
    if error := trace.get("error_y"):
        bars = np.stack([error["arrayminus"], error["array"]])
        axes.errorbar(trace["x"], trace["y"], bars, fmt="none", ecolor=line["color"],
                      elinewidth=0.8, capsize=1.5)  # fmt: skip


def draw_title(axes: "Axes", text: str) -> None:
    """Write a title that holds a name: its signs are no formula, and the font may lack some."""
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415  (as above)

    font = get_font(findfont(axes.title.get_fontproperties()))
    shaped = (c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in text)
    axes.set_title("".join(shaped), parse_math=False)


def draw_series(axes: "Axes", points: "pd.DataFrame", label: str, style: str) -> None:
    """Draw the three columns cost, value and standard error as a line in a band."""
    cost, value, error = (points[column] for column in points.columns)
    (line,) = axes.plot(cost, value, style, markersize=4, label=label)
    axes.fill_between(
        cost, value - 2 * error, value + 2 * error, color=line.get_color(), alpha=0.15, linewidth=0
    )
