"""A run of very many evaluations, made up: the space of SmolLM2-135M, scores as it has them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Measurement
from evaluators.scoring.score import Score, estimate
from planner.results.front import front
from planner.runs.metadata import RunMetadata
from planner.runs.records import BASELINE_ROUND, Evaluation, SearchEffort
from planner.runs.run_store import RunStore
from planner.runs.space_description import (
    VERSION,
    ComponentDescription,
    Kept,
    SiteDescription,
    SpaceDescription,
    save_space,
)
from planner.settings.search import SearchSettings
from search_spaces.models.identity import SourceIdentity
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan

WINDOWS = 16
LAYERS = 30
_COST_NAMES = ("params", "kv")
_PARTIAL_WINDOWS = 4
"""On which the worse plans are scored, as a race drops them."""
_PARTIAL_SHARE = 0.4
_RUINED_SHARE = 0.005
"""Of the plans, whose logits are not finite."""
_WINDOW_TOKENS = 96
_ROUND_PLANS = 32
_DENSE_NLL = 3.6
_DENSE = {
    "params": 134_515_008.0,
    "size": 269_030_016.0,
    "macs": 137_797_632.0,
    "kv": 23_040.0,
    "nonzero": 134_515_008.0,
    "packed": 269_030_016.0,
}
_MODEL = SourceIdentity(
    architecture="LlamaForCausalLM",
    fingerprint="a8cb9a5cf44dba0d",
    params=134_515_008,
    checksum="0" * 16,
)
_Levels = NDArray[np.int_]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What every layer has one of."""

    kind: str
    units: int
    unit: str
    step: int
    """Units from one level to the next."""
    params: float
    """Of one unit."""
    macs: float
    kv: float = 0.0

    @property
    def top(self) -> int:
        return self.units // self.step

    def costs(self) -> dict[str, float]:
        """Return what a level costs more than the one below."""
        params = self.params * self.step
        return {
            "params": params,
            "size": 2 * params,
            "macs": self.macs * self.step,
            "kv": self.kv * self.step,
            "nonzero": params,
            "packed": 2 * params,
        }


_PARTS = (
    _Part(
        kind="attention", units=3, unit="KV groups", step=1, params=294_912, macs=331_776, kv=256
    ),
    _Part(kind="mlp", units=1536, unit="channels", step=128, params=1_728, macs=1_728),
)
_SITES = [(f"layers.{n}.{part.kind}", n, part) for n in range(LAYERS) for part in _PARTS]
_TOPS: _Levels = np.array([part.top for _, _, part in _SITES])


def write_big_run(folder: Path, plans: int, *, seed: int) -> None:
    """Write a finished run, each evaluation as a search records it.

    Args:
        folder: The run's, new or empty.
        plans: How many evaluations, two baselines among them.
        seed: That all that looks random comes from.
    """
    settings = SearchSettings.checked(
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        data="wikitext2",
        budget="params<=0.8x,kv<=0.9x",
        evaluations=plans,
        search_windows=WINDOWS,
        window_tokens=_WINDOW_TOKENS,
    )
    space, rng = _space(), np.random.default_rng(seed)
    levels = _levels(plans, rng)
    evaluations = _evaluations(levels, rng)
    kept = [*front(evaluations, _COST_NAMES), *evaluations[:2]]
    wholes = {evaluation.genome: _plan(evaluation.genome) for evaluation in kept}
    uniform, additive = (wholes[evaluation.genome].plan_id for evaluation in evaluations[:2])
    baselines = {"uniform": uniform, "additive": additive}
    with RunStore.create(folder, settings) as run:
        save_space(folder, space)
        run.record_metadata(_metadata(space, baselines))
        for evaluation in evaluations:
            run.record(_rescored(evaluation, wholes.get(evaluation.genome), rng))
        run.record_plans(wholes.values())
        run.record_finish(
            SearchEffort(
                plans=plans,
                tokens=sum(evaluation.score.tokens for evaluation in evaluations),
                seconds=0.5 * plans,
                choosing_seconds=0.01 * plans,
            )
        )


def _space() -> SpaceDescription:
    components = tuple(
        ComponentDescription(
            name=name, kind=part.kind, layer=layer, units=part.units, unit=part.unit, features=1
        )
        for name, layer, part in _SITES
    )
    sites = tuple(
        SiteDescription(
            name=name,
            dimension="units",
            targets=(name,),
            levels=tuple((Kept(units=level * part.step),) for level in range(part.top + 1)),
            costs={
                cost: tuple(_DENSE[cost] - (part.top - lvl) * each for lvl in range(part.top + 1))
                for cost, each in part.costs().items()
            },
        )
        for name, _, part in _SITES
    )
    needed = tuple(name for name, _, part in _SITES if part.kind == "attention")
    return SpaceDescription(
        version=VERSION,
        model=_MODEL,
        components=components,
        sites=sites,
        dense_costs=_DENSE,
        needed=needed,
    )


def _levels(plans: int, rng: np.random.Generator) -> _Levels:
    """Return genomes ``(plans, sites)``, no two alike: two uniform ones, then from mild to hard.

    They become more like a common allocation, as a search finds one.
    """
    best = rng.normal(0.0, 1.0, len(_SITES))
    strength = rng.uniform(0.02, 0.75, (2 * plans, 1))
    found = np.linspace(0.2, 1.0, 2 * plans)[:, None]
    noise = rng.normal(0.0, 0.35, (2 * plans, len(_SITES)))
    share = np.clip(1.0 - strength * np.exp(found * 0.6 * best + noise), 0.0, 1.0)
    drawn = np.rint(share * _TOPS).astype(int)
    drawn[:, 0] = np.maximum(drawn[:, 0], 1)  # some attention is kept
    uniform = np.rint(np.array([[0.8], [0.7]]) * _TOPS).astype(int)
    _, first = np.unique(np.concatenate([uniform, drawn]), axis=0, return_index=True)
    return np.concatenate([uniform, drawn])[np.sort(first)[:plans]]


def _evaluations(levels: _Levels, rng: np.random.Generator) -> list[Evaluation]:
    kl = _divergences(levels, rng)
    worse = np.quantile(kl.mean(axis=1), 1 - _PARTIAL_SHARE)
    ruined = rng.random(len(levels)) < _RUINED_SHARE
    ruined[:2] = False
    difficulty = rng.normal(_DENSE_NLL, 0.4, WINDOWS)
    evaluations = []
    for row, genome in enumerate(levels):
        windows = WINDOWS if row < 2 or kl[row].mean() < worse else _PARTIAL_WINDOWS
        by_window = {
            "kl": kl[row, :windows],
            "nll": difficulty[:windows] + 0.9 * kl[row, :windows],
            "agreement": np.exp(-0.8 * kl[row, :windows]),
        }
        evaluations.append(
            Evaluation(
                genome=tuple(genome.tolist()),
                plan_id=hashlib.sha256(genome.tobytes()).hexdigest()[:10],
                round=BASELINE_ROUND if row < 2 else (row - 2) // _ROUND_PLANS,
                score=Score(
                    by_window={} if ruined[row] else by_window,
                    tokens=windows * _WINDOW_TOKENS,
                    seconds=0.03 * windows,
                    failure="its logits are not finite" if ruined[row] else None,
                ),
                costs=_costs(genome),
            )
        )
    return evaluations


def _divergences(levels: _Levels, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return KL by window ``(plans, windows)``: sums of what each site does, and chance."""
    sensitivity = rng.lognormal(-2.2, 0.8, len(_SITES))
    means = ((1.0 - levels / _TOPS) ** 1.7) @ sensitivity
    windows = rng.lognormal(0.0, 0.3, WINDOWS)
    return means[:, None] * windows * rng.lognormal(0.0, 0.15, (len(levels), WINDOWS))


def _costs(genome: _Levels) -> dict[str, float]:
    costs = dict(_DENSE)
    for pruned, (_, _, part) in zip((_TOPS - genome).tolist(), _SITES, strict=True):
        for cost, each in part.costs().items():
            costs[cost] -= pruned * each
    return costs


def _plan(genome: Sequence[int]) -> Plan:
    return Plan(
        model=_MODEL,
        sites={
            # every second unit first, so that plans are as long as those of importances
            name: ComponentPlan.of(
                np.argsort(np.arange(part.units) % 2, kind="stable")[: level * part.step],
                part.units,
            )
            for level, (name, _, part) in zip(genome, _SITES, strict=True)
        },
    )


def _rescored(evaluation: Evaluation, plan: Plan | None, rng: np.random.Generator) -> Evaluation:
    """Return a plan that is kept in whole with scores on other text, and its own id."""
    if plan is None:
        return evaluation
    return replace(
        evaluation,
        plan_id=plan.plan_id,
        fresh=_elsewhere(evaluation, rng),
        holdout=_elsewhere(evaluation, rng),
    )


def _elsewhere(evaluation: Evaluation, rng: np.random.Generator) -> Mapping[str, Measurement]:
    kl = evaluation.score.mean("kl") * rng.lognormal(0.1, 0.3, WINDOWS)
    return {
        "kl": estimate(kl),
        "nll": estimate(_DENSE_NLL + 0.9 * kl),
        "agreement": estimate(np.exp(-0.8 * kl)),
        "acceptance": estimate(np.exp(-0.7 * kl)),
        "cosine": estimate(np.exp(-0.1 * kl)),
    }


def _metadata(space: SpaceDescription, baselines: Mapping[str, str]) -> RunMetadata:
    smallest = dict(_DENSE)
    for _, _, part in _SITES:
        for cost, each in part.costs().items():
            smallest[cost] -= part.top * each
    return RunMetadata(
        model=_MODEL,
        arithmetic="torch.float32 on cpu",
        text="wikitext2",
        space_digest=space.digest,
        cost_names=_COST_NAMES,
        dense=_DENSE,
        smallest=smallest,
        baselines=baselines,
    )
