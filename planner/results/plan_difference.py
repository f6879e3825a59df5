"""Two plans side by side: what differs layer by layer, and whether one is significantly better."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from evaluators.metric import Measurement
from planner.results.layer_strips import Cell, Strip, layer_strips
from planner.results.run_plan import RunPlan
from planner.results.significance import compare_kl
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from search_spaces.errors import RunError

Scores = Mapping[str, Measurement]
TextName = Literal["held-out text", "fresh text", "the search text"]


@dataclass(frozen=True, kw_only=True)
class PlanDifference:
    """What the second of two plans does otherwise than the first."""

    first: Evaluation
    second: Evaluation
    strips: tuple[Strip, ...]
    """Where they differ: each cell's share is what the second keeps more, from −1 to 1."""
    text: TextName | None
    """What their KL is compared on: of the texts that scored both, the one that searching knew
    least; `None`: there is none."""
    advantage: Measurement
    """How much lower the second plan's KL is there, in nats a token."""
    is_significant: bool
    """Whether one is better than the other at 2.5 %."""
    is_paired: bool
    """Whether the same windows scored both, so that what they share cancels."""

    @property
    def sentence(self) -> str:
        """Which plan is better, on which text, and how surely."""
        if self.text is None:
            return "no text scored both plans, so that their quality cannot be compared"
        gap, error = self.advantage.value, self.advantage.standard_error
        test = "paired t test" if self.is_paired else "unpaired t test"
        if gap == 0:
            return f"on {self.text} both plans have the same KL"
        better, worse = (self.second, self.first) if gap > 0 else (self.first, self.second)
        verdict = "significantly better" if self.is_significant else "not significantly better"
        return (
            f"plan {better.plan_id} is {verdict} than {worse.plan_id}: its KL on {self.text} is "
            f"{abs(gap):.3f} ± {error:.3f} lower ({test} at 2.5 %)"
        )


def plan_difference(first: RunPlan, second: RunPlan) -> PlanDifference:
    """Compare two plans of one run, or of two runs of one model.

    Raises:
        RunError: If they are of different models, or a folder does not say what it chooses among.
    """
    _check_model(first.run, second.run)
    text, ours, theirs = _scores(first.evaluation, second.evaluation)
    if first.run.metadata.text_digest != second.run.metadata.text_digest:
        # as many windows, and others
        ours, theirs = replace(ours, by_window=()), replace(theirs, by_window=())
    advantage, verdict = compare_kl(theirs, ours)
    _, opposite = compare_kl(ours, theirs)
    return PlanDifference(
        first=first.evaluation,
        second=second.evaluation,
        strips=tuple(_difference_strips(first, second)),
        text=text,
        advantage=advantage,
        is_significant="better" in (verdict, opposite),
        is_paired=len(advantage.by_window) > 1,
    )


def _check_model(first: RunStore, second: RunStore) -> None:
    if first.metadata.model != second.metadata.model:
        raise RunError(
            "two plans must be of one model to be compared layer by layer, got "
            f"`{first.folder}` and `{second.folder}`; choose both from runs of one model"
        )


def _scores(
    first: Evaluation, second: Evaluation
) -> tuple[TextName | None, Measurement, Measurement]:
    """Return the text that tells most about both, and both KL on it."""
    found: tuple[tuple[TextName, Scores, Scores], ...] = (
        ("held-out text", first.holdout, second.holdout),
        ("fresh text", first.fresh, second.fresh),
        ("the search text", first.quality, second.quality),
    )
    for text, ours, theirs in found:
        kls = [scores["kl"] for scores in (ours, theirs) if "kl" in scores]
        if len(kls) == 2 and all(math.isfinite(kl.value) for kl in kls):
            return text, kls[0], kls[1]
    unknown = Measurement(value=math.nan, standard_error=math.nan)
    return None, unknown, unknown


def _difference_strips(first: RunPlan, second: RunPlan) -> list[Strip]:
    """Return the strips in which two plans differ."""
    ours, theirs = ({s.name: s for s in layer_strips(p.layers())} for p in (first, second))
    strips = []
    for name in dict.fromkeys([*ours, *theirs]):
        cells = _difference_cells(ours.get(name), theirs.get(name))
        if any(cell.text for cell in cells):
            strips.append(Strip(name=name, cells=cells))
    return strips


def _difference_cells(first: Strip | None, second: Strip | None) -> tuple[Cell, ...]:
    """Return what the second strip has more of; a plan without the strip is dense in it."""
    present = first or second
    assert present is not None
    dense = [replace(cell, share=1.0, text="", note="as dense") for cell in present.cells]
    pairs = zip(first.cells if first else dense, second.cells if second else dense, strict=True)
    return tuple(_difference_cell(a, b, is_counted=present.is_counted) for a, b in pairs)


def _difference_cell(ours: Cell, theirs: Cell, *, is_counted: bool) -> Cell:
    gap = (theirs.share or 0.0) - (ours.share or 0.0)
    if gap == 0 and (ours.text == theirs.text or ours.share == 1):
        return Cell(layer=ours.layer, share=0.0, text="", note=f"both: {ours.note}")
    text = f"{100 * gap:+.0f}" if gap and is_counted else "≠"
    note = f"{ours.note} → {theirs.note}"
    return Cell(layer=ours.layer, share=gap, text=text.replace("-", "−"), note=note)
