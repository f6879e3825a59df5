"""The answer of a run in a sentence, with what was measured of its plan where it is served."""

from pathlib import Path

from evaluators.metric import METRICS
from planner.reports.known_exports import KnownExport, known_exports
from planner.results.answers import Answer, answer_of
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget, relative_cost


def answer_sentence(run: RunStore, budget: Budget | str, root: Path | None = None) -> str:
    """Return the best plan of a run within a budget, with all that is known of it.

    Args:
        run: The run.
        budget: The limits.
        root: A folder outside of which no export is looked for; by default there is none.

    Raises:
        BudgetError: If no plan of the run meets it.
    """
    return sentence_of(run, answer_of(run, budget), root)


def sentence_of(run: RunStore, answer: Answer, root: Path | None = None) -> str:
    """Return an answer of a run in words; the arguments are those of `answer_sentence`."""
    exports = known_exports(run, root).get(answer.plan.plan_id, ())
    measured = [words for export in exports if (words := measured_speed(export))]
    return answer.sentence(measured or _predicted_speed(answer))


def _predicted_speed(answer: Answer) -> list[str]:
    """Return the speed that the run's latency table predicts, if it has one and it is not told."""
    name, costs, dense = "throughput", answer.plan.costs, answer.dense
    is_told = {name, METRICS[name].minimised}.intersection(answer.cost_names)
    if is_told or name not in costs or name not in dense:
        return []
    return [f"{relative_cost(name, costs[name], dense):.2f}× {name} as predicted"]


def measured_speed(export: KnownExport) -> str:
    """Return how fast an export writes tokens beside the dense model; empty: nobody timed it."""
    service = export.manifest.service
    if not service.latency:
        return ""
    dense, pruned = service.latency["dense"].decode_ms, service.latency["pruned"].decode_ms
    return f"{dense / pruned:.2f}× decode throughput in {service.runtime}" if pruned else ""
