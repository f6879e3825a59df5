"""Strips of a plan in a terminal, on cells that are known by heart."""

from planner.reports.plan_text import strips_text
from planner.results.layer_strips import DROPPED, Cell, Strip


def strip(name: str, *cells: tuple[float | None, str], is_counted: bool = True) -> Strip:
    found = (
        Cell(layer=layer, share=share, text=text, note="")
        for layer, (share, text) in enumerate(cells)
    )
    return Strip(name=name, cells=tuple(found), is_counted=is_counted)


def test_a_bar_is_as_high_as_what_is_kept() -> None:
    shares = [1.0, 0.99, 0.5, 0.01, 0.0, None]
    scale, bars, legend = strips_text(
        [strip("MLP", *((share, "") for share in shares))]
    ).plain.splitlines()
    assert scale == "layer  0    5"
    assert bars == f"MLP    ██▅▁{DROPPED}·"
    assert legend.strip() == f"▁ little kept … █ all kept, {DROPPED} dropped"


def test_what_is_not_counted_has_letters_that_are_explained() -> None:
    formats = strip(
        "MLP: number format", (0.5, "int8"), (1.0, ""), (0.5, "int4"), (0.5, "int8"),
        is_counted=False,
    )  # fmt: skip
    _, line, _ = strips_text([formats]).plain.splitlines()
    assert line == "MLP: number format  a█ba  a int8, b int4"


def test_names_of_strips_are_as_wide_as_the_longest() -> None:
    lines = strips_text([strip("a", (1.0, "")), strip("longest", (1.0, ""))]).plain.splitlines()
    assert lines[1:3] == ["a        █", "longest  █"]


def test_without_choices_there_is_nothing_to_draw() -> None:
    assert strips_text([]).plain == "nothing to choose in any layer"
