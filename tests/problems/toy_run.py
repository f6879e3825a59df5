"""A run of the toy search, small enough to know by heart."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluators.metric import searched_names
from evaluators.scoring.score import Score
from planner.run import Run
from planner.runs.metadata import RunMetadata
from planner.runs.records import Evaluation
from planner.runs.space_description import (
    ComponentDescription,
    Kept,
    SiteDescription,
    SpaceDescription,
    save_space,
)
from search_spaces.models.identity import ModelIdentity, SourceIdentity
from tests.problems.toy_search import DENSE, SETTINGS, SITES, TOP, evaluation, rescored

WHOLE, GOOD, SMALL, WASTEFUL = (3,) * 8, (3, 1, 3, 1, 3, 1, 3, 1), (1,) * 8, (0, *(3,) * 7)
PARTIAL, RUINED = (2,) * 8, (0,) * 8
FRONT = ("plan-33333333", "plan-31313131", "plan-11111111")
"""By falling cost."""


def toy_space() -> SpaceDescription:
    """Eight MLPs of three channels, a layer each."""
    names = [f"layers.{layer}.mlp" for layer in range(SITES)]
    return SpaceDescription(
        version=3,
        model=ModelIdentity(architecture="Toy", fingerprint="abc", params=1000),
        components=tuple(
            ComponentDescription(
                name=name, kind="mlp", layer=layer, units=TOP, unit="channels", features=1
            )
            for layer, name in enumerate(names)
        ),
        sites=tuple(
            SiteDescription(
                name=name,
                dimension="units",
                targets=(name,),
                levels=tuple((Kept(units=level),) for level in range(TOP + 1)),
                costs={"params": tuple(900.0 + 25 * level for level in range(TOP + 1))},
            )
            for name in names
        ),
        dense_costs=DENSE,
    )


def toy_evaluations() -> list[Evaluation]:
    """Three plans of a front, one that they dominate, one given up early, one without quality."""
    whole, good, small, wasteful, partial, ruined = map(
        evaluation, (WHOLE, GOOD, SMALL, WASTEFUL, PARTIAL, RUINED)
    )
    less = {name: values[:1] for name, values in partial.score.by_window.items()}
    nan = dict.fromkeys(searched_names(), np.array([math.nan, math.nan]))
    return [
        *(
            replace(e, fresh=rescored(0.2, 0.01), holdout=rescored(0.3, 0.02))
            for e in (whole, good)
        ),
        replace(small, fresh=rescored(0.9, 0.01), holdout=rescored(1.0, 0.02)),
        wasteful,
        partial.scored(Score(by_window=less, tokens=50, seconds=1.0)),
        ruined.scored(Score(by_window=nan, tokens=100, seconds=1.0, failure="ruined")),
    ]


def write_toy_run(folder: Path) -> Run:
    """Write the run, and return it open for writing."""
    run = Run.create(folder, SETTINGS)
    space = toy_space()
    save_space(folder, space)
    run.record_metadata(
        RunMetadata(
            model=SourceIdentity(architecture="Toy", fingerprint="abc", params=1000, checksum="1"),
            dense=DENSE,
            smallest={name: 0.2 * cost for name, cost in DENSE.items()},
            cost_names=("params",),
            space_digest=space.digest,
            text_digest="text",
            baselines={"uniform": evaluation(WASTEFUL).plan_id},
        )
    )
    for each in toy_evaluations():
        run.record(each)
    return run
