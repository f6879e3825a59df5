"""One search on disk: made, resumed, or opened to be read."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from evaluators.metric import Measurement
from planner.runs.environment import describe_environment
from planner.runs.folder import DATABASE_FILE, ENVIRONMENT_FILE, LOCK_FILE, PREPARED_FOLDERS
from planner.runs.records import Evaluation, Reply, RescoreSplit, Spent
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
            RunError: The folder holds a run or something else.
            OutputError: The folder cannot be made or written to.
        """
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            contents = [path for path in folder.iterdir() if not _is_remains(path)]
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
        lock = _locked(folder)
        try:
            # the settings go first: they are the mark of a run, and resuming makes what is missing
            settings.save(folder)
            environment = describe_environment(device=settings.device, seed=settings.seed)
            atomic_write_text(folder / ENVIRONMENT_FILE, json.dumps(environment, indent=2) + "\n")
            return cls(folder, settings, Store.open(folder / DATABASE_FILE), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(cls, folder: Path, settings: SearchSettings) -> Self:
        """Go on with a run that was stopped or killed, or take a finished one further.

        Raises:
            RunError: No run there, one in use, or one of other settings.
            OutputError: The folder cannot be written to.
        """
        saved = _saved_settings(folder)
        differences = saved.differences(settings)
        if differences:
            listed = "; ".join(
                f"`{name}` was {before!r}, now {now!r}"
                for name, (before, now) in differences.items()
            )
            raise RunError(
                f"a resumed run must keep its settings, got others: {listed}; "
                "give the same ones or choose another --out"
            )
        lock = _locked(folder)
        try:
            store = Store.open(folder / DATABASE_FILE)
            settings.save(folder)
            return cls(folder, settings, store, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a run, be it finished, killed or still searching.

        Raises:
            RunError: No run there, or none that this version can read.
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
        """Empty the folder again, of a run in which nothing was scored."""
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
        """Write one evaluation, whole or not at all."""
        self._store.record(evaluation)

    def record_rescore(
        self, plan_id: str, split: RescoreSplit, measurements: Mapping[str, Measurement]
    ) -> None:
        """Write what a plan scored on another split than the search's, over what was there."""
        self._store.record_rescore(plan_id, split, measurements)

    def record_reply(self, batch: int, genome: Genome, reply: Reply) -> None:
        """Write what a searcher was told of a genome in one round."""
        self._store.record_reply(batch, genome, reply)

    def replies(self) -> dict[tuple[int, Genome], Reply]:
        """What searchers were told for one round only, by round and genome."""
        return self._store.replies()

    def evaluations(self) -> list[Evaluation]:
        """All evaluations in the order in which they landed."""
        return self._store.evaluations()

    def find(self, genome: Genome) -> Evaluation | None:
        """The evaluation of a genome, if it has one."""
        return self._store.find(genome)

    @property
    def dense(self) -> Mapping[str, float]:
        """The dense model's costs.

        Raises:
            RunError: Where the search has not come so far.
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
        """Refuse the folder of a comparison, whose searches lie in the folders inside.

        Raises:
            RunError: Where it is one.
        """
        if recipes := self.get_meta("recipes"):
            raise RunError(
                f"`{self.folder}` must hold a search, got a comparison; give the folder of one "
                f"recipe, such as `{self.folder / recipes[0]}`"
            )

    def check_model(self, identity: ModelIdentity) -> None:
        """Refuse another model than the run's; keep the first one's identity.

        Raises:
            RunError: Where the weights are not those that the run began with.
        """
        known = self._first("model", identity.model_dump())
        if known != identity.model_dump():
            raise RunError(
                f"`{self.settings.model}` must hold the weights that the run began with, "
                f"{known['architecture']} {known['fingerprint']}, got {identity.architecture} "
                f"{identity.fingerprint}; bring them back, or search into another --out"
            )

    @property
    def arithmetic(self) -> str:
        """The number format and the device that plans were scored with."""
        return str(self.get_meta("arithmetic"))

    def check_arithmetic(self, arithmetic: str) -> None:
        """Refuse to mix scores of two number formats or devices; keep the first.

        Raises:
            RunError: Where they are others than those that the run began with.
        """
        known = self._first("arithmetic", arithmetic)
        if known != arithmetic:
            raise RunError(
                f"a resumed run must compute as it began, in {known}, got {arithmetic}; "
                "set `--dtype` and `--device`, or search into another --out"
            )

    def check_latency(self, digest: str) -> None:
        """Refuse to mix latencies from two tables; keep the first one's digest.

        Raises:
            RunError: Where the table is another than the run began with.
        """
        if self._first("latency", digest) != digest:
            raise RunError(
                "a resumed run must keep the latency table that it began with, got another in "
                f"`{self.folder}`; bring its latency.json back, or search into another --out"
            )

    def _first(self, key: str, value: object) -> Any:
        """Give the value that was kept first under a name; this one where there is none."""
        if self.get_meta(key) is None:
            self.set_meta(key, value)
        return self.get_meta(key)

    def baselines(self) -> dict[str, Evaluation]:
        """The plans that were scored to compare with: ``uniform`` and ``additive``, if any."""
        known = {e.plan_id: e for e in self.evaluations()}
        names: Mapping[str, str] = self.get_meta("baselines") or {}
        return {name: known[plan_id] for name, plan_id in names.items()}

    @property
    def is_bare(self) -> bool:
        """Whether nothing was scored, neither here nor in runs inside the folder."""
        inside = (path for path in self.folder.iterdir() if path.is_dir())
        return not self.evaluations() and all(path.name in PREPARED_FOLDERS for path in inside)

    def finish(self, spent: Spent) -> None:
        """Note that the search came to the end that its settings set, and what it took."""
        self.set_meta("spent", asdict(spent))
        self.set_meta("finished", self._ends())

    @property
    def is_finished(self) -> bool:
        """Whether the search came to the end that its settings set."""
        return bool(self.get_meta("finished") == self._ends())

    @property
    def spent(self) -> Spent:
        """What the search took, where it is finished."""
        return Spent(**self.get_meta("spent"))

    def _ends(self) -> dict[str, float | None]:
        settings = self.settings
        return {
            "evaluations": settings.evaluations,
            "tokens": settings.tokens,
            "minutes": settings.minutes,
        }

    def set_meta(self, key: str, value: object) -> None:
        """Keep a JSON value under a name."""
        self._store.set_meta(key, value)

    def get_meta(self, key: str) -> Any:
        """The JSON value under a name, ``None`` where there is none."""
        return self._store.get_meta(key)


def _is_remains(path: Path) -> bool:
    """Whether a process that was killed before its run began may have left this."""
    return path.name == LOCK_FILE or is_temporary(path)


def _locked(folder: Path) -> FileLock:
    """The run's lock; the kernel holds it, so a killed process frees it."""
    lock = FileLock(folder / LOCK_FILE)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError too
            raise RunError(
                f"`{folder}` must be searched by one process at a time, got a second; "
                "wait for the first to end, or stop it, then use --resume"
            ) from error
    return lock


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
