"""What gradients say of each level of each site, added up by hand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluators.scoring.by_gradient.slopes import Slopes
from planner.searching.scorer import Scorer
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.formats.component_formats import ComponentFormats
from search_spaces.space.holds import HOLDS_ALL
from search_spaces.space.number_format import FORMATS
from search_spaces.space.space import SearchSpace
from search_spaces.structure.projections import Projections

COMPONENTS = (
    Projections(kind="attention", layer=0, unit_count=2, module="attention"),
    Projections(kind="mlp", layer=0, unit_count=4, module="mlp"),
)
RISES = {"Q8_0": 0.25, "Q4_0": 1.0}
"""Of KL by a whole component in each format: twice as much for the MLP."""
SLOPES = (np.array([-4.0, -2.0]), np.array([-8.0, -4.0, -2.0, -1.0]))
WINDOWS, TOKENS = 3, 10


def space(choices: str) -> SearchSpace:
    offered = ComponentFormats(formats=(FORMATS["Q8_0"], FORMATS["Q4_0"]))
    has_formats = "formats" in choices
    formats = {component.name: offered for component in COMPONENTS if has_formats}
    return build_space(
        ModelIdentity(architecture="Toy", fingerprint="cafe", params=10),
        COMPONENTS,
        [np.arange(component.unit_count) for component in COMPONENTS],
        choices=Choices.parse(choices),
        mlp_step=1,
        holds=replace(HOLDS_ALL, formats=formats),
    )


class Backend:
    """Answers with the slopes and rises above, and notes what it was asked."""

    rungs = (WINDOWS,)

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.asked: list[str] = []

    def slopes(
        self, _: NDArray[np.int_], asked: Sequence[Mapping[int, Sequence[int]]], *, gates: bool
    ) -> Iterator[tuple[int, Slopes]]:
        self.asked += ["gates"] * gates + ["options"] * bool(asked[0])
        found = {}
        for position, choices in asked[0].items():
            for choice in choices:
                units, options = self._space.tables[position][choice]
                assert units == COMPONENTS[position].unit_count  # at full width
                found[position, choice] = (1 + position) * RISES[options.format.name]
        yield 0, Slopes(gates=SLOPES if gates else None, options=found)


def changes(choices: str, genome: list[int]) -> tuple[dict[str, list[float]], int, list[str]]:
    """What each level of each site changes, the tokens that it took, and what was asked."""
    searched = space(choices)
    backend = Backend(searched)
    calibration = type("Calibration", (), {"search": np.zeros((WINDOWS, TOKENS))})
    prepared = type("Prepared", (), {"space": searched, "calibration": calibration})
    scorer = Scorer(cast("Any", prepared), cast("Any", backend))
    ((index, reply),) = scorer.gradients(np.array([genome]))
    assert index == 0
    parts = np.split(reply.values, np.cumsum(searched.top_levels + 1)[:-1])
    names = [site.name for site in searched.sites]
    found = {name: part.tolist() for name, part in zip(names, parts, strict=True)}
    return found, reply.tokens, backend.asked


def test_formats_rise_from_the_present_one_and_with_what_is_kept() -> None:
    # two of four channels in Q8_0, and the whole attention in Q4_0; levels ascend to the dense one
    found, _, asked = changes("heads,channels,formats", [1, 0, 1, 1])
    assert asked == ["gates", "options"]
    assert list(found) == [
        "layers.0.attention",
        "layers.0.attention.format",
        "layers.0.mlp",
        "layers.0.mlp.format",
    ]
    assert found["layers.0.attention.format"] == pytest.approx([0.0, -0.75, -1.0])
    half = 2 * 0.5  # of the MLP, which rises twice as much
    assert found["layers.0.mlp.format"] == pytest.approx([half * 0.75, 0.0, half * -0.25])
    # what channels do is said by their gates
    assert found["layers.0.mlp"] == pytest.approx([4.0, 0.0, -2.0, -3.0])


def test_formats_alone_take_no_gates() -> None:
    found, tokens, asked = changes("formats", [2, 2])
    assert asked == ["options"]
    assert found["layers.0.attention.format"] == pytest.approx([1.0, 0.25, 0.0])
    assert found["layers.0.mlp.format"] == pytest.approx([2.0, 0.5, 0.0])
    # five passes, and two formats of each component, which together are one pass each
    assert tokens == (5 + 2) * WINDOWS * TOKENS


def test_units_alone_take_no_options() -> None:
    _, tokens, asked = changes("heads,channels", [1, 3])
    assert asked == ["gates"]
    assert tokens == 3 * WINDOWS * TOKENS
