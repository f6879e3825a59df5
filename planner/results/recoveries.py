"""What recoveries of plans came to, in sentences."""

from collections.abc import Iterable

from evaluators.scoring.score import difference
from planner.results.answers import settled_quality
from planner.runs.records import RECOVERIES, Evaluation, Recovery, Selection, variant_name
from planner.runs.run_store import RunStore


def recovery_sentences(plan: Evaluation) -> list[str]:
    """Return what each recovery of a plan came to, a sentence each."""
    return [_sentence(plan, name) for name in RECOVERIES if name in plan.recovered]


def run_recovery_sentences(run: RunStore, plans: Iterable[Evaluation]) -> list[str]:
    """Return what recoveries of some plans of a run came to, and how one was chosen by them."""
    told = [sentence for plan in plans for sentence in recovery_sentences(plan)]
    selection = run.metadata.selection
    return [*told, selection_sentence(selection)] if selection else told


def selection_sentence(selection: Selection) -> str:
    """Return how a plan was chosen by recovering several, and how far the order stayed."""
    counts = ", then ".join(
        f"{len(each.kl)} on {each.tokens:,} tokens" for each in selection.rounds
    )
    return (
        f"plan {selection.chosen} was chosen within {selection.budget} by refitting {counts}; the "
        f"order before recovery foretells the order after with Spearman {selection.spearman:.2f} "
        "(1: the same, 0: not at all)"
    )


def _sentence(plan: Evaluation, recovery: Recovery) -> str:
    came_to, name = plan.recovered[recovery], variant_name(plan.plan_id, recovery)
    effort = f"{came_to.tokens:,} tokens in {came_to.seconds:.0f} s"
    variant = plan.variant(recovery)
    if variant is None:
        return f"{name}, {RECOVERIES[recovery]} on {effort}: {came_to.failure}"
    text, after = settled_quality(variant)
    told = f"KL {after['kl']} on {text} text"
    if plan.holdout:
        before = plan.holdout["kl"]
        change = difference(after["kl"], before)
        told += f", from {before}: {change.value:+.3f} ± {change.standard_error:.3f}"
    return f"{name}, {RECOVERIES[recovery]} on {effort}: {told}"
