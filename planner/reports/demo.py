"""The demo's two answers next to the dense model and the baselines, as text and as figures."""

import resource
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from evaluators.metric import METRICS, Metric, exponential
from planner.export.cards.manifest import Manifest
from planner.reports.sentences import compared_with_baselines
from planner.reports.tables import aligned, front_table
from planner.run import Run
from planner.runs.folder import FRONT_FIGURES, FRONT_FILE, FRONT_PICTURE
from planner.runs.records import Evaluation
from planner.targets.gguf.gguf_target import MODEL_FILE, run_line
from search_spaces.space.number_format import SOURCE

_SIZES = (
    "tokens",
    "window_tokens",
    "calibration_windows",
    "search_windows",
    "fresh_windows",
    "holdout_windows",
)
"""Settings that say how much text the demo takes."""


@dataclass(frozen=True, kw_only=True)
class DemoAnswer:
    """What the demo exported: the best plan of a run within a budget."""

    run: Run
    budget: str
    model: Path
    """Folder of the export."""
    manifest: Manifest
    """Of the export."""

    @property
    def best(self) -> Evaluation:
        return self.run.best(self.budget)


def compared_plans(answer: DemoAnswer) -> dict[str, Evaluation]:
    """Return the plans that the demo compares by name, all scored on held-out text."""
    run, best = answer.run, answer.best
    baselines = run.baselines()  # both exist, for the demo's budget limits a cost
    dense = next(e for e in run.landed() if e.costs["params"] == run.dense["params"])
    refitted = best.variant("refit")
    return {
        "dense": dense,
        "pruned": best,
        **({"refitted": refitted} if refitted else {}),
        "uniform": baselines["uniform"],
        "additive": baselines["additive"],
    }


def demo_figures(answer: DemoAnswer, small: DemoAnswer, *, seconds: float) -> dict[str, object]:
    """Return the figures of the demo, to be written as JSON."""
    run, manifest = answer.run, answer.manifest
    return {
        "command": "make demo",
        "budget": answer.budget,
        "settings": {name: getattr(run.settings, name) for name in _SIZES},
        "seconds": round(seconds, 1),
        "peak_resident_bytes": peak_resident_bytes(),
        "plans": {name: _figures(plan) for name, plan in compared_plans(answer).items()},
        "latency": {name: speed.model_dump() for name, speed in manifest.service.latency.items()},
        "environment": {
            name: manifest.environment[name] for name in ("cpu", "core_count", "python")
        },
        "front": run.front().to_dict(orient="records"),
        "small": _small_figures(small),
    }


def _figures(plan: Evaluation) -> dict[str, object]:
    return {
        "plan_id": plan.plan_id,
        "costs": dict(plan.costs),
        "search_kl": plan.quality["kl"].value,
        "holdout": {
            metric: {"value": m.value, "standard_error": m.standard_error}
            for metric, m in plan.holdout.items()
        },
        "perplexity": _perplexity(plan),
    }


def _small_figures(small: DemoAnswer) -> dict[str, object]:
    service = small.manifest.service
    plans = {"best": small.best, **small.run.baselines()}
    return {
        "budget": small.budget,
        "dense_size": small.run.dense["size"],
        "plans": {name: _figures(plan) for name, plan in plans.items() if plan.holdout},
        "formats": _formats(small),
        "kl_in_runtime": service.kl.model_dump() if service.kl else None,
        "file_bytes": service.file_bytes,
        "latency": {name: speed.model_dump() for name, speed in service.latency.items()},
        "run_line": run_line(small.model / MODEL_FILE),
    }


def demo_summary(answer: DemoAnswer, sentences: Mapping[str, str]) -> str:
    """Return what the demo prints of its search and its export for `transformers`.

    Args:
        answer: The best plan of the demo's search.
        sentences: What each model wrote, by its name.
    """
    run, manifest, plans = answer.run, answer.manifest, compared_plans(answer)

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
            f"within {answer.budget}: plan {plans['pruned'].plan_id}",
            *compared_with_baselines(run, plans["pruned"]),
            "",
            aligned(rows),
            "",
            *(f"{name:>6}: {sentence}" for name, sentence in sentences.items()),
            "",
            f"run:      {run.folder} ({FRONT_FILE}, {FRONT_FIGURES}, {FRONT_PICTURE})",
            f"exported: {answer.model}, reloaded and proved: logits within "
            f"{manifest.logit_gap:.1e}",
        ]
    )


def small_summary(small: DemoAnswer) -> str:
    """Return what the demo prints of its second search and its export for llama.cpp."""
    run, manifest, best = small.run, small.manifest, small.best
    speeds = manifest.service.latency
    times = {name: f"{speed.decode_ms:.1f} ms" for name, speed in speeds.items()}
    decode = f", {times['pruned']} a token (dense: {times['dense']})" if times else ""
    amount = METRICS["size"].amount(best.costs["size"])
    return "\n".join(
        [
            f"within {small.budget}: plan {best.plan_id}, as a GGUF file",
            *compared_with_baselines(run, best),
            f"its source is a quantised file, which KL is counted against: {_stored(small)}",
            f"in llama.cpp KL {manifest.service.kl}{decode}",
            "",
            f"run:      {run.folder}",
            f"exported: {small.model}, {amount} of tensors, as promised to the byte",
            f"run it:   {run_line(small.model / MODEL_FILE)}",
        ]
    )


def _stored(small: DemoAnswer) -> str:
    """Return how many components are stored in which number format, in words."""
    counts = _formats(small)
    words = [
        f"{count} {'stay as they came' if name == SOURCE.name else f'are in {name}'}"
        for name, count in counts.items()
    ]
    return f"of {sum(counts.values())} components {', '.join(words)}"


def _formats(small: DemoAnswer) -> dict[str, int]:
    """Return how many of the components that are kept are stored in which number format."""
    plan = small.run.stored_plan(small.best.plan_id)
    assert plan is not None, "a run holds the plans of its front"
    kept = (each.format or "16 bits" for each in plan.sites.values() if each.kept)
    return dict(Counter(kept).most_common())


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
