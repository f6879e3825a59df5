"""One search on disk: created, resumed, or opened for reading."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from evaluators.metric import Measurement
from planner.runs.environment import describe_environment
from planner.runs.folder import DATABASE_FILE, ENVIRONMENT_FILE, LOCK_FILE, PREPARED_FOLDERS
from planner.runs.lock import lock_folder
from planner.runs.records import Evaluation, RescoreSplit, RoundReply, SearchEffort
from planner.runs.store import Store
from planner.settings.search import SETTINGS_FILE, SearchSettings
from search_spaces.atomic_files import atomic_write_text, discard, is_temporary, writing
from search_spaces.errors import RunError, SettingsError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.space import Genome


class RunStore:
    """One search on disk; a context manager that closes the database and frees the lock."""

    def __init__(
        self, folder: Path, settings: SearchSettings, store: Store, lock: FileLock | None
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._store = store
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, settings: SearchSettings) -> Self:
        """Start a run in a folder that is new or empty.

        Raises:
            RunError: If the folder holds a run or something else.
            OutputError: If the folder cannot be made or written to.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            contents = [path for path in folder.iterdir() if not _is_leftover(path)]
        if folder / SETTINGS_FILE in contents:
            raise RunError(
                f"`{folder}` must not hold a run already, got one; "
                "go on with it through --resume or choose another --out"
            )
        if contents:
            raise RunError(
                f"`{folder}` must be new or empty, got {contents[0].name!r} in it; "
                "choose another --out"
            )
        lock = lock_folder(folder)
        try:
            # settings first: they mark the folder as a run, and resuming makes what is missing
            settings.save(folder)
            environment = describe_environment(device=settings.device, seed=settings.seed)
            atomic_write_text(folder / ENVIRONMENT_FILE, json.dumps(environment, indent=2) + "\n")
            return cls(folder, settings, Store.open(folder / DATABASE_FILE), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, folder: Path, settings: SearchSettings) -> Self:
        """Resume a run that was stopped or killed, or take a finished one further.

        Raises:
            RunError: If there is no run, it is in use, or it has other settings.
            OutputError: If the folder cannot be written to.
        """
        saved = _saved_settings(folder)
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
        lock = lock_folder(folder)
        try:
            store = Store.open(folder / DATABASE_FILE)
            settings.save(folder)
            return cls(folder, settings, store, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a run for reading, whether it is finished, killed or still searching.

        Raises:
            RunError: If there is no run, or none that this version can read.
        """
        settings = _saved_settings(folder)
        database = folder / DATABASE_FILE
        if not database.is_file():
            raise RunError(f"`{database}` must exist, got nothing; go on with --resume")
        return cls(folder, settings, Store.open_read_only(database), None)

    def close(self) -> None:
        """Close the database and free the lock."""
        self._store.close()
        if self._lock is not None:
            self._lock.release()

    def discard(self) -> None:
        """Empty the folder of a run in which nothing was scored."""
        for path in self.folder.iterdir():
            if path.is_file() and path.name != LOCK_FILE:
                discard(path)
            elif path.name in PREPARED_FOLDERS:
                shutil.rmtree(path, ignore_errors=True)

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

    def record_reply(self, batch: int, genome: Genome, reply: RoundReply) -> None:
        """Write the answer that a searcher got on a genome, for one round only."""
        self._store.record_reply(batch, genome, reply)

    def replies(self) -> dict[tuple[int, Genome], RoundReply]:
        """Return the answers that were for one round only, by round and genome."""
        return self._store.replies()

    def evaluations(self) -> list[Evaluation]:
        """Return all evaluations in the order in which they landed."""
        return self._store.evaluations()

    def find(self, genome: Genome) -> Evaluation | None:
        """Return the evaluation of a genome, if it has one."""
        return self._store.find(genome)

    @property
    def dense(self) -> Mapping[str, float]:
        """The dense model's costs.

        Raises:
            RunError: If the search has not begun to score.
        """
        dense: Mapping[str, float] | None = self.get_meta("dense")
        self.check_search()
        if dense is None:
            raise RunError(
                f"`{self.folder}` must hold a search that has begun to score, got none; "
                "go on with `planner search … --resume`"
            )
        return dense

    def check_search(self) -> None:
        """Refuse the folder of a comparison, whose searches are in the folders inside.

        Raises:
            RunError: If it is one.
        """
        if recipes := self.get_meta("recipes"):
            raise RunError(
                f"`{self.folder}` must hold a search, got a comparison; give the folder of one "
                f"recipe, such as `{self.folder / recipes[0]}`"
            )

    def check_model(self, identity: ModelIdentity) -> None:
        """Refuse another model than the run's; the first one's identity is stored.

        Raises:
            RunError: If the weights are not those that the run began with.
        """
        first = self._first("model", identity.model_dump())
        if first != identity.model_dump():
            raise RunError(
                f"`{self.settings.model}` must hold the weights that the run began with, "
                f"{first['architecture']} {first['fingerprint']}, got {identity.architecture} "
                f"{identity.fingerprint}; bring them back, or search into another --out"
            )

    @property
    def arithmetic(self) -> str:
        """The number format and the device that plans were scored with."""
        return str(self.get_meta("arithmetic"))

    def check_arithmetic(self, arithmetic: str) -> None:
        """Refuse to mix scores of two number formats or devices; the first pair is stored.

        Raises:
            RunError: If they are others than those that the run began with.
        """
        first = self._first("arithmetic", arithmetic)
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
        if self._first("latency", digest) != digest:
            raise RunError(
                "a resumed run must keep the latency table that it began with, got another in "
                f"`{self.folder}`; bring its latency.json back, or search into another --out"
            )

    def _first(self, key: str, value: object) -> Any:
        """Return the value that was first stored under a name, which may be this one."""
        if self.get_meta(key) is None:
            self.set_meta(key, value)
        return self.get_meta(key)

    def baselines(self) -> dict[str, Evaluation]:
        """Return the baselines that were scored: ``uniform`` and ``additive``, if any."""
        evaluations = {e.plan_id: e for e in self.evaluations()}
        plan_ids: Mapping[str, str] = self.get_meta("baselines") or {}
        return {name: evaluations[plan_id] for name, plan_id in plan_ids.items()}

    @property
    def is_bare(self) -> bool:
        """Return whether nothing was scored, neither here nor in runs inside the folder."""
        subfolders = (path for path in self.folder.iterdir() if path.is_dir())
        return not self.evaluations() and all(p.name in PREPARED_FOLDERS for p in subfolders)

    def finish(self, spent: SearchEffort) -> None:
        """Record that the search reached the end that its settings set, and what it took."""
        self.set_meta("spent", asdict(spent))
        self.set_meta("finished", self._limits())

    @property
    def is_finished(self) -> bool:
        """Return whether the search reached the end that its settings set."""
        return bool(self.get_meta("finished") == self._limits())

    @property
    def spent(self) -> SearchEffort:
        """What the search took, once it is finished."""
        return SearchEffort(**self.get_meta("spent"))

    def _limits(self) -> dict[str, float | None]:
        settings = self.settings
        return {
            "evaluations": settings.evaluations,
            "tokens": settings.tokens,
            "minutes": settings.minutes,
        }

    def set_meta(self, key: str, value: object) -> None:
        """Store a JSON value under a name."""
        self._store.set_meta(key, value)

    def get_meta(self, key: str) -> Any:
        """Return the JSON value under a name, ``None`` if there is none."""
        return self._store.get_meta(key)


def _is_leftover(path: Path) -> bool:
    """Return whether a process that was killed before its run began may have left this."""
    return path.name == LOCK_FILE or is_temporary(path)


def _saved_settings(folder: Path) -> SearchSettings:
    if not (folder / SETTINGS_FILE).is_file():
        raise RunError(
            f"`{folder}` must be the folder of a run, got no {SETTINGS_FILE} in it; "
            "give the --out of a search"
        )
    try:
        return SearchSettings.load(folder)
    except SettingsError as error:
        raise RunError(f"`{folder}` must hold a readable run: {error}") from error
