"""A study of Optuna in a journal file."""

import json
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalStorage

from planner.reports.studies.optuna_study import Study
from planner.reports.studies.study_place import written_whole
from planner.searchers.adapters.quiet_optuna import quiet_optuna
from search_spaces.errors import OutputError
from search_spaces.progress import Progress

_BATCH = 100
"""Trials between two reports of progress."""


class _Pending(BaseJournalBackend):
    """A journal file to which what is appended is written at the end, at once."""

    def __init__(self, path: Path) -> None:
        self._file = JournalFileBackend(str(path))
        self._logs = list(self._file.read_logs(0))
        self._written = len(self._logs)

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += json.loads(json.dumps(logs))  # as the file will give them back

    def write(self) -> None:
        """Append what is pending to the file."""
        self._file.append_logs(self._logs[self._written :])


def write_journal(place: str, study: Study, progress: Progress) -> None:
    """Add a study to a journal file, which need not be there.

    Raises:
        SettingsError: If the file has a study of this name.
        OutputError: If it cannot be written, or is no journal.
    """
    with written_whole(Path(place)) as path:
        try:
            pending = _Pending(path)
            storage = JournalStorage(pending)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OutputError(
                f"`{place}` must be a journal of Optuna, or not be there, got another file; "
                "choose another"
            ) from error
        if any(each.study_name == study.name for each in storage.get_all_studies()):
            raise study.refuse_twin(place)
        with quiet_optuna():
            made = optuna.create_study(
                storage=storage,
                study_name=study.name,
                directions=["minimize"] * len(study.metric_names),
            )
            made.set_metric_names(list(study.metric_names))
        count = len(study.trials)
        for done, trial in enumerate(study.trials, 1):
            made.add_trial(trial)
            if done % _BATCH == 0 or done == count:
                progress.advance(done, count)
        pending.write()
