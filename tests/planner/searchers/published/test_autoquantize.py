"""Number formats weighed by one backward pass, on a toy whose effects add up."""

from dataclasses import replace

import numpy as np
import pytest

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.single_sites import site_sensitivities
from planner.searchers.protocol import Answer, Ask, Floats, Genomes, Text
from planner.searchers.published.autoquantize import AutoQuantize
from search_spaces.space.block_options import SITE_NAMES
from tests.problems import additive

TOY = additive()
TEXT = Text(rungs=(4, 16), tokens=32)
FORMATS = np.array([top > 1 for top in TOY.top_levels])
"""Sites that are taken to choose formats; the others are kept or dropped as a whole."""
EXACT = tuple(
    sensitivity * (1 - np.arange(top + 1) / top) ** power
    for sensitivity, power, top in zip(TOY.sensitivity, TOY.power, TOY.top_levels, strict=True)
)
"""KL of each level of each site alone."""


def space(*, all_formats: bool, limit: float = 0.7) -> Domain:
    kinds = [
        SITE_NAMES["format"] if all_formats or in_formats else "mlp" for in_formats in FORMATS
    ]
    return replace(TOY.domain(limit, only_budget=True), kinds=tuple(kinds))


def answer(ask: Ask, told_by_gradients: float = 1.0) -> Answer:
    """Answer as the toy does, but for gradients, which are of second order where there are some.

    Of sites that are no formats a backward pass of the dense model says nothing.
    """
    if not ask.gradients:
        return TOY.answer(ask)
    assert ask.genomes.tolist() == [TOY.top_levels.tolist()]
    told = [
        table if is_format else 0 * table for table, is_format in zip(EXACT, FORMATS, strict=True)
    ]
    gradients = told_by_gradients * np.concatenate(told)
    return Answer(objectives=np.empty((0, 0)), seen=np.empty(0), gradients=(gradients,))


def told(
    space: Domain, text: Text, told_by_gradients: float = 1.0
) -> tuple[list[Ask], tuple[Floats, ...]]:
    """What is asked for sensitivities, and what they come to."""
    asks: list[Ask] = []
    dialogue = site_sensitivities(space, text, 4)
    ask = next(dialogue)
    while True:
        asks.append(ask)
        try:
            ask = dialogue.send(answer(ask, told_by_gradients))
        except StopIteration as stopped:
            return asks, stopped.value


def test_formats_take_one_backward_pass_and_all_else_is_scored_alone() -> None:
    asks, tables = told(space(all_formats=False), TEXT)
    singles, gradients = asks
    lowered = singles.genomes != TOY.top_levels
    assert lowered.sum(axis=1).tolist() == [0, *[1] * int((~FORMATS).sum())]
    assert not lowered[:, FORMATS].any()
    assert gradients.gradients
    for table, exact in zip(tables, EXACT, strict=True):
        np.testing.assert_allclose(table, exact, atol=1e-12)


def test_where_the_backward_pass_fails_formats_are_scored_alone_too() -> None:
    asks, tables = told(space(all_formats=False), TEXT, told_by_gradients=np.nan)
    _, _, formats = asks
    lowered = formats.genomes != TOY.top_levels
    assert lowered[:, FORMATS].any(axis=0).all()
    assert not lowered[:, ~FORMATS].any()
    for table, exact in zip(tables, EXACT, strict=True):
        np.testing.assert_allclose(table, exact, atol=1e-12)


def test_without_gradients_formats_are_scored_alone_too() -> None:
    asks, tables = told(space(all_formats=True), replace(TEXT, gradients=False))
    (singles,) = asks
    assert (singles.genomes != TOY.top_levels).any(axis=0).all()
    for table, exact in zip(tables, EXACT, strict=True):
        np.testing.assert_allclose(table, exact, atol=1e-12)


def test_the_plan_is_the_exact_one_and_takes_two_evaluations() -> None:
    domain = space(all_formats=False)
    searcher = AutoQuantize(domain, 8, TEXT)
    scored: list[Genomes] = []
    while len((ask := searcher.ask()).genomes):
        if not ask.gradients:
            scored.append(ask.genomes)
        searcher.tell(ask, answer(ask))
    *_, plans = scored
    assert plans.tolist() == [additive_best(domain, EXACT, [0.7]).tolist()]
    within = TOY.all_genomes()[domain.affords(TOY.all_genomes())]
    assert TOY.kl(plans)[0] == pytest.approx(TOY.kl(within).min(), rel=1e-4)
