"""What a run says of itself, and what a resumed one must agree with."""

import logging
from collections.abc import Mapping, Sequence
from operator import gt
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from evaluators.metric import metric_names
from planner.runs.folder import DATABASE_FILE
from planner.runs.metadata import RunMetadata
from planner.runs.records import Evaluation, RunStatus, SearchEffort, plan_and_recovery
from planner.runs.refusals import damaged, foreign_version
from planner.runs.resume_command import resume_command
from planner.runs.store import Store
from planner.settings.search import SearchSettings
from search_spaces.errors import RunError, quoted
from search_spaces.models.identity import SourceIdentity, difference
from search_spaces.space.plan import Plan

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

logger = logging.getLogger(__name__)
Known = TypeVar("Known")


class RunFacts:
    """What a run's folder and database say of it."""

    def __init__(self, folder: Path, settings: SearchSettings, store: Store) -> None:
        self.folder = folder
        self.settings = settings
        self._store = store

    @property
    def metadata(self) -> RunMetadata:
        """What is known of the run as a whole."""
        return self._store.metadata()

    def record_metadata(self, known: RunMetadata) -> None:
        """Write what is known of the run as a whole; what is `None` stays as it is."""
        self._store.record_metadata(known)

    @property
    def status(self) -> RunStatus:
        """How far the run has come, or had when it was killed.

        One that reached its end stays finished, whatever became of a session that resumed it.
        """
        status = self._store.status()
        return status.finished() if self.is_finished else status

    @property
    def dense(self) -> Mapping[str, float]:
        """The dense model's costs.

        Raises:
            RunError: If the search has not begun to score.
        """
        return self._costs("dense", self.metadata.dense)

    @property
    def smallest(self) -> Mapping[str, float]:
        """The costs of the smallest plan.

        Raises:
            RunError: If the search has not begun to score.
        """
        return self._costs("smallest", self.metadata.smallest)

    @property
    def cost_names(self) -> tuple[str, ...]:
        """The costs that the search minimises.

        Raises:
            RunError: If the search has not begun to score.
        """
        return self._begun(self.metadata.cost_names)

    @property
    def spent(self) -> SearchEffort:
        """What the search took, once it is finished.

        Raises:
            RunError: If it is not.
        """
        return self._begun(self.metadata.spent)

    def _begun(self, known: Known | None) -> Known:
        """Return what is known once the search has begun to score, or ended."""
        self.check_search()
        if known is None:
            error = RunError(
                f"`{self.folder}` must hold a search that has begun to score, got one that is "
                f"{self.status}; go on with it by the command beside this"
            )
            error.add_note(resume_command(self.settings, self.folder))
            raise error
        return known

    def _costs(self, name: str, known: Mapping[str, float] | None) -> Mapping[str, float]:
        """Return costs in which none of those is missing that every run has."""
        costs = self._begun(known)
        needed = {*metric_names("exact"), *(self.metadata.cost_names or ())}
        if lost := needed.difference(costs):
            what = f"its entry `{name}` lacks {min(lost)}"
            raise damaged(self.folder / DATABASE_FILE, what)
        return costs

    def landed(self, after: int = 0) -> list[Evaluation]:
        """Return evaluations in the order in which they landed.

        Args:
            after: Only those that landed or changed after this revision, such as the highest
                `Evaluation.revision` that a page shows.
        """
        return self._store.landed(after)

    @property
    def evaluation_count(self) -> int:
        """How many plans were scored."""
        return self._store.count()

    @property
    def revision(self) -> int:
        """Of the youngest evaluation that was read; it grows with each write."""
        return self._store.revision

    def find(self, genome: "Genome") -> Evaluation | None:
        """Return the evaluation of a genome, if it has one."""
        return self._store.find(genome)

    def find_plan(self, plan_id: str) -> Evaluation | None:
        """Return the evaluation of a plan, or of a variant by its name, if there is one."""
        named, recovery = plan_and_recovery(plan_id)
        found = next((e for e in self.landed() if e.plan_id == named), None)
        return found.variant(recovery) if found and recovery else found

    def baselines(self) -> dict[str, Evaluation]:
        """Return the baselines that were scored: ``uniform`` and ``additive``, if any."""
        evaluations = {e.plan_id: e for e in self.landed()}
        plan_ids = self.metadata.baselines or {}
        if lost := set(plan_ids.values()).difference(evaluations):
            what = f"it lacks plan {min(lost)}, a baseline"
            raise damaged(self.folder / DATABASE_FILE, what)
        return {name: evaluations[plan_id] for name, plan_id in plan_ids.items()}

    def stored_plan(self, plan_id: str) -> Plan | None:
        """Return a plan in whole if it is stored: those of the front and the baselines are.

        Raises:
            RunError: If it is damaged, or of a version that is not known.
        """
        text = self._store.plan(plan_id)
        if text is None:
            return None
        version = None
        try:
            plan = Plan.model_validate_json(text)
        except ValidationError as error:
            plan, version = None, foreign_version(error)
        if plan is not None and self._is_ours(plan, plan_id):
            return plan
        fault = "damaged" if version is None else f"of version {version!s:.20}"
        refusal = RunError(
            f"`{self.folder / DATABASE_FILE}` must hold the plans of its front as this version "
            f"writes them, and plan {plan_id} is {fault}; go on with the search where the model "
            "is, which writes it again"
        )
        refusal.add_note(resume_command(self.settings, self.folder))
        raise refusal

    def _is_ours(self, plan: Plan, plan_id: str) -> bool:
        """Return whether a stored plan is that of an id, and of the run's model."""
        model = self.metadata.model
        is_of_model = model is None or not difference(model, plan.model, "the search")
        return plan.plan_id == plan_id and is_of_model

    @property
    def is_finished(self) -> bool:
        """Return whether the search reached the end that its settings set."""
        return self.metadata.finished == self._limits()

    def _limits(self) -> dict[str, float | None]:
        return {n: getattr(self.settings, n) for n in ("evaluations", "tokens", "minutes")}

    def check_search(self) -> None:
        """Refuse the folder of a comparison, whose searches are in the folders inside.

        Raises:
            RunError: If it is one.
        """
        if recipes := self.metadata.recipes:
            raise RunError(
                f"`{self.folder}` must hold a search, got a comparison; give the folder of one "
                f"recipe, such as `{self.folder / recipes[0]}`"
            )

    def check_model(self, identity: SourceIdentity) -> None:
        """Refuse another model than the run's; the first one's identity is stored.

        Raises:
            RunError: If its weights, config or tokenizer are not those that the run began with.
        """
        first = self._first(RunMetadata(model=identity)).model
        if first is None or not first.checksum:
            what = "it does not say which model was searched"
            raise damaged(self.folder / DATABASE_FILE, what)
        if change := difference(first, identity, "the search"):
            raise RunError(
                f"a run goes on with the model that it began with, and {change}; bring "
                f"{quoted(self.settings.model, 40)} back as it was, or search into another --out"
            )
        if identity.digest and not first.digest:
            logger.warning(
                "the run began without `--verify full`: its weights are compared by samples and "
                "sums alone"
            )

    def check_text(self, digest: str) -> None:
        """Refuse other windows of text than the run's, if these are recorded.

        Raises:
            RunError: If they are others.
        """
        first = self.metadata.text_digest
        if first is not None and first != digest:
            raise RunError(
                f"calibration.npz changed since the search: its tokens were {first}, now "
                f"{digest}; bring back the file, or the text it was drawn from, or search into "
                "another --out"
            )

    def check_order(self, digest: str) -> None:
        """Refuse another order of units than the run's; the first one's digest is stored.

        Raises:
            RunError: If the order is another than the run began with.
        """
        first = self._first(RunMetadata(order_digest=digest)).order_digest
        if first != digest:
            raise RunError(
                f"ranking.npz changed since the search: its order and prior were {first}, now "
                f"{digest}; bring back the file, or search into another --out"
            )

    def check_genomes(self, top_levels: Sequence[int]) -> None:
        """Refuse evaluations of plans that are not in the search space.

        Raises:
            RunError: If a genome has another length, or a level beyond these highest ones.
        """
        for evaluation in self.landed():
            levels = evaluation.genome
            if len(levels) != len(top_levels) or any(map(gt, levels, top_levels)):
                what = f"plan {evaluation.plan_id} is none of its search space"
                raise damaged(self.folder / DATABASE_FILE, what)

    @property
    def arithmetic(self) -> str:
        """The number format and the device that plans were scored with."""
        return str(self.metadata.arithmetic)

    def check_arithmetic(self, arithmetic: str) -> None:
        """Refuse to mix scores of two number formats or devices; the first pair is stored.

        Raises:
            RunError: If they are others than those that the run began with.
        """
        first = self._first(RunMetadata(arithmetic=arithmetic)).arithmetic
        if first != arithmetic:
            raise RunError(
                f"a resumed run must compute as it began, in {first}, got {arithmetic}; "
                "set `--dtype` and `--device`, or search into another --out"
            )

    def check_latency(self, digest: str) -> None:
        """Refuse to mix latencies from two tables; the first one's digest is stored.

        Raises:
            RunError: If the table is another than the run began with.
        """
        if self._first(RunMetadata(latency_digest=digest)).latency_digest != digest:
            raise RunError(
                "a run must keep the latency table that it began with, got another in "
                f"`{self.folder}`; bring its latency.json back, or search into another --out"
            )

    def _first(self, known: RunMetadata) -> RunMetadata:
        """Return what is known of the run; this is recorded if nothing was known of it yet."""
        if known.names - self.metadata.names:
            self._store.record_metadata(known)
        return self.metadata
