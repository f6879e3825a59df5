"""One search on disk: created, resumed, or opened for reading."""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from filelock import FileLock

from evaluators.metric import Measurement
from planner.runs.environment import describe_environment
from planner.runs.folder import (
    DATABASE_FILE,
    DEMO_FILE,
    ENVIRONMENT_FILE,
    LOCK_FILE,
    PREPARED_FOLDERS,
    SETTINGS_FILE,
    delete,
    delete_abandoned,
    sort_out,
)
from planner.runs.lock import lock_folder
from planner.runs.metadata import RunMetadata
from planner.runs.records import (
    LONGEST_SECONDS,
    Evaluation,
    Recovered,
    Recovery,
    RescoreSplit,
    RoundReply,
    RunState,
    RunStatus,
    SearchEffort,
    now,
)
from planner.runs.run_facts import RunFacts
from planner.runs.store import Store
from planner.runs.vacancy import (
    check_free,
    check_length,
    check_not_lost,
    holds_nothing,
    saved_settings,
)
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import (
    atomic_write_text,
    discard,
    make_folder,
    remove_empty,
    writing,
)
from search_spaces.errors import InputError, PlannerError, RunError
from search_spaces.space.plan import Plan

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

logger = logging.getLogger(__name__)


class RunStore(RunFacts):
    """One search on disk; a context manager that closes the database and frees the lock."""

    is_new = False
    """Whether the run was begun here and now."""
    _made: Iterable[Path] = ()
    """Folders that were made for the run, its own first."""

    def __init__(
        self, folder: Path, settings: SearchSettings, store: Store, lock: FileLock | None
    ) -> None:
        super().__init__(folder, settings, store)
        self._lock = lock
        self._status: RunStatus | None = None

    @classmethod
    def create(
        cls, folder: str | Path, settings: SearchSettings, *, is_demo: bool = False
    ) -> Self:
        """Start a run in a folder that is new or empty; that of a demo is marked first.

        Raises:
            RunError: If the folder holds a run or something else, or its path is too long.
            OutputError: If the folder cannot be made or written to.
        """
        folder = Path(folder)
        check_length(folder)
        made = make_folder(folder)
        try:
            check_free(folder)
            with writing(folder):
                (folder / DEMO_FILE).unlink(missing_ok=True)
                if is_demo:
                    (folder / DEMO_FILE).touch()
            run = cls._opened(folder, settings)
        except BaseException:
            remove_empty(made)
            raise
        run.is_new, run._made = True, made
        run.begin_session()
        return run

    @classmethod
    def resume(cls, folder: str | Path, settings: SearchSettings) -> Self:
        """Resume a run that was stopped or killed, or take a finished one further.

        One that was killed before it left anything is begun.

        Raises:
            RunError: If there is no run, it is in use, it has other settings, or what it scored
                is lost.
            OutputError: If the folder cannot be written to.
        """
        folder = Path(folder)
        if holds_nothing(folder):
            logger.info("`%s` holds nothing to go on with: the run begins", folder)
            return cls.create(folder, settings)
        saved = saved_settings(folder)
        differences = saved.differences(settings)
        if differences:
            description = "; ".join(
                f"`{name}` was {before!r}, now {now!r}"
                for name, (before, now) in differences.items()
            )
            raise RunError(
                f"a resumed run must keep its settings, got others: {description}; "
                "give the same ones or choose another --out"
            )
        return cls._opened(folder, settings)

    @classmethod
    def open(cls, folder: str | Path, *, live: bool = True) -> Self:
        """Open a run for reading, whether it is finished, killed or still searching.

        Args:
            folder: Of the run.
            live: Whether answers follow what a search writes later; if not, all are of the moment
                at which the run was opened.

        Raises:
            RunError: If there is no run, or none that this version can read.
        """
        folder = Path(folder)
        settings = saved_settings(folder)
        # code is trusted by a command line, never by a folder
        settings = settings.model_copy(update={"trust_remote_code": False})
        database = folder / DATABASE_FILE
        if Store.is_lost(database):
            raise RunError(
                f"`{database}` must hold what was scored, got nothing; restore it, or go on with "
                "--resume if nothing was scored yet"
            )
        return cls(folder, settings, Store.open_read_only(database, live=live), None)

    @classmethod
    def _opened(cls, folder: Path, settings: SearchSettings) -> Self:
        """Open a run to search in, and make what it lacks."""
        lock = lock_folder(folder)
        try:
            check_not_lost(folder)
            delete_abandoned(folder)
            # settings first: they mark the folder as a run, and resuming makes what is missing;
            # those of a resumed run are kept once it may be resumed
            if not (folder / SETTINGS_FILE).is_file():
                settings.save(folder)
            if not (folder / ENVIRONMENT_FILE).is_file():
                environment = describe_environment(device=settings.device, seed=settings.seed)
                text = json.dumps(environment, indent=2) + "\n"
                atomic_write_text(folder / ENVIRONMENT_FILE, text)
            return cls(folder, settings, Store.open(folder / DATABASE_FILE), lock)
        except BaseException:
            lock.release()
            raise

    def keep_settings(self) -> None:
        """Store the settings of a resumed run, of which some may be others than before."""
        self.settings.save(self.folder)

    def close(self) -> None:
        """Close the database and free the lock."""
        self._store.close()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Close a run in which nothing was scored, and delete what it left."""
        self._store.close()
        ours, _ = sort_out(self.folder)
        delete(path for path in ours if path.name != LOCK_FILE)
        discard(self.folder / LOCK_FILE)  # last, and while it is held
        self.close()
        remove_empty(self._made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, evaluation: Evaluation) -> None:
        """Write one evaluation atomically."""
        self._store.record(evaluation)

    def record_rescore(
        self, plan_id: str, split: RescoreSplit, measurements: Mapping[str, Measurement]
    ) -> None:
        """Write a plan's scores on a re-scoring text, over earlier ones."""
        self._store.record_rescore(plan_id, split, measurements)

    def record_recovery(self, plan_id: str, recovery: Recovery, came_to: Recovered) -> None:
        """Write what a recovery of a plan came to, over an earlier one."""
        self._store.record_recovery(plan_id, recovery, came_to)

    def record_reply(self, batch: int, genome: "Genome", reply: RoundReply) -> None:
        """Write the answer that a searcher got on a genome, for one round only."""
        self._store.record_reply(batch, genome, reply)

    def replies(self) -> "dict[tuple[int, Genome], RoundReply]":
        """Return the answers that were for one round only, by round and genome."""
        return self._store.replies()

    def record_plans(self, plans: Iterable[Plan]) -> None:
        """Write plans in whole, so that they are read without the model; what holds stays."""
        texts = {plan.plan_id: plan.to_json() for plan in plans}
        news = {name: text for name, text in texts.items() if self._store.plan(name) != text}
        if news:
            self._store.record_plans(news)

    @property
    def is_bare(self) -> bool:
        """Return whether nothing was scored, neither here nor in runs inside the folder."""
        subfolders = (path for path in self.folder.iterdir() if path.is_dir())
        return not self.landed() and all(p.name in PREPARED_FOLDERS for p in subfolders)

    def begin_session(self) -> None:
        """Record that a session of this process begins; of a resumed run, once it may go on."""
        if self._status is None:
            earlier = RunStatus()
            with suppress(RunError):  # a damaged one is written over
                earlier = self._store.status()
            self._status = RunStatus(tokens=earlier.tokens)
            self._store.record_status(self._status)

    def record_status(
        self,
        state: RunState,
        phase: str = "",
        share: float = 0.0,
        *,
        eta_seconds: float | None = None,
        tokens: int = 0,
    ) -> None:
        """Record how far the session has come, if one began: a refused one leaves no trace.

        Args:
            state: Of the run.
            phase: What the run is doing, in words.
            share: Of the phase, from 0 to 1.
            eta_seconds: Left of the search; `None` if nobody knows.
            tokens: Candidate tokens of the search so far, as far as they are known.
        """
        is_known = eta_seconds is not None and eta_seconds <= LONGEST_SECONDS
        if self._status is not None:
            eta, most = eta_seconds if is_known else None, max(tokens, self._status.tokens)
            status = RunStatus(state=state, phase=phase, share=share, eta_seconds=eta, tokens=most)
            self._update(status)

    def record_end(self, error: BaseException) -> None:
        """Record that a session was ended before its run was, by its user or by an error."""
        if self._status is None:
            return
        ended = replace(self._status, state="stopped", eta_seconds=None)
        if isinstance(error, Exception):  # and not Ctrl-C, or a signal
            failure = str(error) if isinstance(error, PlannerError) else type(error).__name__
            ended = replace(ended, state="failed", failure=failure)
        with suppress(InputError):  # what ended it may be the disk
            self._update(ended.finished() if self.is_finished else ended)

    def record_finish(self, spent: SearchEffort) -> None:
        """Record that the search reached the end that its settings set, and what it took."""
        self.begin_session()
        self.record_metadata(RunMetadata(spent=spent, finished=self._limits()))
        self.record_status("finished", share=1.0, tokens=spent.tokens)

    def _update(self, status: RunStatus) -> None:
        assert self._status is not None
        self._status = replace(status, started_at=self._status.started_at, updated_at=now())
        self._store.record_status(self._status)
