"""SmolLM2-135M made ready for a benchmark, and the candidates that benchmarks score."""

import pydoc_data.topics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.cli.commands.demo_command import demo_model
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import mutate
from planner.settings.search import SearchSettings
from search_spaces.progress import NoProgress

SEED = 0
PARENT_COSTS = (0.5, 0.63, 0.77, 0.9)
"""Parameters of the parents, as shares of the dense model's."""
CHILDREN_EACH = 8


@dataclass(frozen=True, kw_only=True)
class Text:
    """How much of Python's own help topics is read."""

    windows: int
    tokens: int


def open_prepared(text: Text) -> PreparedModel:
    """Load, rank and sort the model, with text that ships with Python to calibrate on."""
    with tempfile.TemporaryDirectory() as scratch:
        topics = write_topics(Path(scratch))
        settings = SearchSettings.checked(
            model=str(demo_model()),
            data=str(topics),
            seed=SEED,
            search_windows=text.windows,
            calibration_windows=64,
            fresh_windows=2,
            holdout_windows=2,
            window_tokens=text.tokens,
            device="cpu",
            compensate="none",  # what is timed here is the engine, on plain slices
        )
        dense = open_model(settings, NoProgress())
        return prepare(dense, settings, Path(scratch), NoProgress())


def write_topics(folder: Path) -> Path:
    """Write down Python's own help topics."""
    topics = folder / "topics.txt"
    topics.write_text("\n\n".join(pydoc_data.topics.topics.values()), encoding="utf-8")
    return topics


def param_domain(prepared: PreparedModel) -> Domain:
    """Levels and what they cost in parameters, down to the smallest plan."""
    return prepared.make_domain(
        {"params": None},
        prepared.smallest_costs()["params"] / prepared.dense.costs.dense()["params"],
    )


def parents(prepared: PreparedModel) -> NDArray[np.int_]:
    """Good plans from 0.5 to 0.9 of the parameters, ``(parents, sites)``."""
    domain = param_domain(prepared)
    no_tilt = np.zeros(len(domain.top_levels))
    return np.stack([domain.by_prior(cost, no_tilt) for cost in PARENT_COSTS])


def offspring(prepared: PreparedModel, seed: int = SEED) -> NDArray[np.int_]:
    """Eight mutants of each parent in turn, at about equal cost, ``(children, sites)``."""
    families = np.repeat(parents(prepared), CHILDREN_EACH, axis=0)
    return mutate(param_domain(prepared), families, np.random.default_rng(seed))
