"""The demo's plan next to the dense model and the baselines, as text and as figures."""

import resource
from pathlib import Path

import psutil

from evaluators.metric import METRICS, Metric, exponential
from planner.export.cards.manifest import Manifest
from planner.reports.sentences import compared_with_baselines
from planner.reports.tables import aligned, front_table
from planner.run import Run
from planner.runs.folder import FRONT_FIGURES, FRONT_FILE, FRONT_PICTURE
from planner.runs.records import Evaluation

_SIZES = (
    "tokens",
    "window_tokens",
    "calibration_windows",
    "search_windows",
    "fresh_windows",
    "holdout_windows",
)
"""Settings that say how much text the demo takes."""


def compared_plans(run: Run, budget: str) -> dict[str, Evaluation]:
    """Return the plans that the demo compares by name, all scored on held-out text."""
    baselines = run.baselines()  # both exist, for the demo's budget limits a cost
    dense = next(e for e in run.landed() if e.costs["params"] == run.dense["params"])
    best = run.best(budget)
    refitted = best.variant("refit")
    return {
        "dense": dense,
        "pruned": best,
        **({"refitted": refitted} if refitted else {}),
        "uniform": baselines["uniform"],
        "additive": baselines["additive"],
    }


def demo_figures(
    run: Run, budget: str, manifest: Manifest, *, seconds: float
) -> dict[str, object]:
    """Return the figures of the demo, to be written as JSON."""
    return {
        "command": "make demo",
        "budget": budget,
        "settings": {name: getattr(run.settings, name) for name in _SIZES},
        "seconds": round(seconds, 1),
        "peak_resident_bytes": peak_resident_bytes(),
        "plans": {
            name: {
                "plan_id": plan.plan_id,
                "costs": dict(plan.costs),
                "holdout": {
                    metric: {"value": m.value, "standard_error": m.standard_error}
                    for metric, m in plan.holdout.items()
                },
                "perplexity": _perplexity(plan),
            }
            for name, plan in compared_plans(run, budget).items()
        },
        "latency": {name: speed.model_dump() for name, speed in manifest.service.latency.items()},
        "environment": {
            name: manifest.environment[name] for name in ("cpu", "core_count", "python")
        },
        "front": run.front().to_dict(orient="records"),
    }


def demo_summary(
    run: Run, budget: str, model: Path, manifest: Manifest, sentences: dict[str, str]
) -> str:
    """Return what the demo prints.

    Args:
        run: The demo's search.
        budget: That the exported plan is the best within.
        model: Folder of the export.
        manifest: Of the export.
        sentences: What each model wrote, by its name.
    """
    plans = compared_plans(run, budget)

    def cost_row(metric: Metric) -> list[str]:
        return [metric.label, "", *(metric.amount(p.costs[metric.name]) for p in plans.values())]

    rows = [
        ["", "", *plans],
        *(cost_row(METRICS[name]) for name in ("params", "size")),
        ["KL, held-out", "", *(f"{plan.holdout['kl']}" for plan in plans.values())],
        ["perplexity, held-out", "", *(f"{_perplexity(plan):.2f}" for plan in plans.values())],
        *_latency_rows(manifest, list(plans)),
    ]
    return "\n".join(
        [
            "",
            front_table(run.front(), marked=plans["pruned"].plan_id).plain,
            "",
            f"within {budget}: plan {plans['pruned'].plan_id}",
            *compared_with_baselines(run, plans["pruned"]),
            "",
            aligned(rows),
            "",
            *(f"{name:>6}: {sentence}" for name, sentence in sentences.items()),
            "",
            f"run:      {run.folder} ({FRONT_FILE}, {FRONT_FIGURES}, {FRONT_PICTURE})",
            f"exported: {model}, reloaded and proved: logits within {manifest.logit_gap:.1e}",
        ]
    )


def _latency_rows(manifest: Manifest, names: list[str]) -> list[list[str]]:
    """Return what was measured of both models; why nothing was, the log and the card say.

    Args:
        manifest: Of the export, whose weights do not change its speed.
        names: Of the plans that the table shows.
    """
    if not manifest.service.latency:
        return []
    speeds = manifest.service.latency

    def row(label: str, times: dict[str, str]) -> list[str]:
        return [label, "", *(times.get(name, "") for name in names)]

    prefill = {name: f"{speed.prefill_ms:.0f} ms" for name, speed in speeds.items()}
    decode = {name: f"{speed.decode_ms:.1f} ms" for name, speed in speeds.items()}
    return [row("prefill of 128 tokens", prefill), row("decode of one token", decode)]


def peak_resident_bytes() -> int:
    """Return the most memory that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024


def _perplexity(evaluation: Evaluation) -> float:
    return exponential(evaluation.holdout["nll"].value)
