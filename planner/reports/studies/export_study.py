"""Writing a run as a study of Optuna, wherever that is to lie."""

from planner.reports.studies.optuna_study import study_of
from planner.reports.studies.study_journal import write_journal
from planner.reports.studies.study_place import no_place
from planner.reports.studies.study_tables import write_tables
from planner.runs.run_store import RunStore
from search_spaces.errors import SettingsError
from search_spaces.progress import NO_PROGRESS, Progress

_JOURNAL_SUFFIXES = (".log", ".journal")
_LONGEST_NAME = 512


def export_study(
    run: RunStore, place: str, name: str | None = None, progress: Progress = NO_PROGRESS
) -> str:
    """Write a run as a study of Optuna, in whole or not at all.

    Args:
        run: The run.
        place: The URL of a database, as SQLAlchemy reads it; or a journal file, ``….log``.
        name: Of the study; by default that of the run's folder.
        progress: Receives how much is written.

    Returns:
        The study's name.

    Raises:
        RunError: If the run has not begun to score, or does not say what it chooses among.
        SettingsError: If the place is none, or has a study of this name.
        OutputError: If it cannot be written.
    """
    if "://" not in place and not place.endswith(_JOURNAL_SUFFIXES):
        raise no_place(place)
    name = name or run.folder.resolve().name
    if len(name) > _LONGEST_NAME:
        raise SettingsError(
            f"`--name` must have at most {_LONGEST_NAME} letters, got {len(name)}; shorten it"
        )
    study = study_of(run, name)
    progress.stage(f"writing {len(study.trials):,} plans as a study of Optuna")
    write = write_tables if "://" in place else write_journal
    write(place, study, progress)
    return name
