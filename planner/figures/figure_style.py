"""What all figures look like: colours, marks, dashes, and text that holds names of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from search_spaces.errors import MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go

Theme = Literal["light", "dark"]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours of a theme."""

    ground: str
    text: str
    faint: str
    """Of what stands back: dominated plans, notes."""
    grid: str
    series: tuple[str, ...]
    """Of runs, or of the texts of a single one."""
    feasible: str
    """What a budget admits."""
    kept: tuple[str, ...]
    """From nothing kept to all kept; text is read on each."""
    less_or_more: tuple[str, str, str]
    """Of a difference: less, alike, more; text is read on each."""
    scale: tuple[str, ...]
    """Of a metric as colour, from low to high: part of viridis, all of which the ground shows."""


PALETTES: Mapping[Theme, Palette] = {
    "light": Palette(
        ground="#ffffff",
        text="#1b1f24",
        faint="#8b949e",
        grid="#e6e8eb",
        series=("#0072b2", "#d55e00", "#008a63", "#aa4499", "#8a6d00", "#56748c"),
        feasible="#008a63",
        kept=("#f2d9c2", "#e3edf5", "#b7d4ea", "#7fb4dc"),
        less_or_more=("#f0a873", "#ffffff", "#7fb4dc"),
        scale=("#440154", "#414487", "#2a788e", "#1e9b79"),
    ),
    "dark": Palette(
        ground="#14171c",
        text="#e6e8eb",
        faint="#7d8590",
        grid="#2a3038",
        series=("#56b4e9", "#ff9d4d", "#3ecf9b", "#e58bc0", "#e6c34a", "#a7bccb"),
        feasible="#3ecf9b",
        kept=("#5a3a22", "#1f2f3d", "#24506f", "#28679a"),
        less_or_more=("#8a4a1c", "#14171c", "#28679a"),
        scale=("#3a75a0", "#21918c", "#5ec962", "#fde725"),
    ),
}
"""Series differ by lightness too, and after Okabe and Ito ("Color universal design", 2008) for
readers who do not tell red from green."""

MARKS = ("circle", "square", "diamond", "triangle-up", "pentagon", "star-diamond", "hexagon")
"""One a run."""
DASHES = ("solid", "dash", "dot")
"""One a text that was scored."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_MARKUP = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "$": "&#36;",  # between two of these stands a formula
        "%": "&#37;",  # before a brace it names a value of the point
        "{": "&#123;",
    }
)


def plain(text: str) -> str:
    """Return text as Plotly shows it sign by sign: no markup, no formula, no template.

    >>> plain("<b>x</b> %{y}")
    '&lt;b&gt;x&lt;/b&gt; &#37;&#123;y}'
    """
    line = "".join(sign if sign.isprintable() else "�" for sign in text)
    return line.translate(_MARKUP)


def styled(traces: Sequence[object], theme: Theme) -> "go.Figure":
    """Return a figure in the style of a theme.

    Raises:
        MissingExtraError: If Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go  # noqa: PLC0415  (pictures for papers share the rest)
    except ImportError as error:
        raise MissingExtraError("plotly", "browse", "a figure") from error
    palette = PALETTES[theme]
    label = {"bgcolor": palette.ground, "bordercolor": palette.faint, "align": "left"}
    return go.Figure(
        data=traces,
        layout={
            "template": {},  # not Plotly's own, which says again what stands below
            "paper_bgcolor": palette.ground,
            "plot_bgcolor": palette.ground,
            "font": {"family": FONT, "size": 13, "color": palette.text},
            "colorway": palette.series,
            "xaxis": axis_style(palette),
            "yaxis": axis_style(palette),
            "hoverlabel": label | {"font": {"family": FONT, "size": 12, "color": palette.text}},
            "margin": {"l": 64, "r": 16, "t": 40, "b": 56},
            "legend": {"bgcolor": "rgba(0,0,0,0)", "itemsizing": "constant"},
        },
    )


def axis_style(palette: Palette) -> dict[str, Any]:
    """Return what all axes look like."""
    return {
        "gridcolor": palette.grid,
        "linecolor": palette.faint,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": palette.faint,
        "title": {"standoff": 10, "font": {"size": 13}},
        "automargin": True,
    }


def translucent(colour: str, share: float) -> str:
    """Return a colour as CSS that lets what is behind it through.

    >>> translucent("#ff0000", 0.2)
    'rgba(255,0,0,0.2)'
    """
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share:g})"
