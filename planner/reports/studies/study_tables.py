"""A study of Optuna in a database, by its tables.

Optuna's own way takes a quarter of a second for a trial of 120 parameters, for it looks for each
of them first; here each table is filled in bulk, in one transaction.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import OptunaError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import URL, Connection, Table, create_engine, insert, inspect, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from planner.reports.studies.optuna_study import Study
from planner.reports.studies.study_place import EXAMPLES, no_place, told, written_whole
from search_spaces.errors import OutputError, SettingsError, quoted
from search_spaces.progress import Progress

_BATCH = 100
"""Trials that are written at a time."""
_METRIC_NAMES = "study:metric_names"
"""The attribute in which Optuna keeps what values are called."""
Rows = dict[Any, list[dict[str, Any]]]
"""Rows of a model's table, by the model."""


def write_tables(place: str, study: Study, progress: Progress) -> None:
    """Add a study to a database, which is made if it is a file that is not there.

    Args:
        place: As SQLAlchemy names it.
        study: What to write.
        progress: Receives how much is written.

    Raises:
        SettingsError: If no database is named, its driver is missing, or it has a study of this
            name.
        OutputError: If it cannot be written, or is of another program.
    """
    url = _url(place)
    shown = told(place)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    try:
        with written_whole(file) if file else nullcontext() as path:
            there = url.set(database=str(path)) if path else url
            _check_owner(there, shown)
            storage = RDBStorage(there.render_as_string(hide_password=False))
            try:
                with storage.engine.begin() as connection:
                    _add_study(connection, study, shown, progress)
            finally:
                storage.engine.dispose()
    except ImportError as error:
        raise SettingsError(
            f"{quoted(shown)} needs the driver of its database, which is not installed; install "
            f"it, or write to {EXAMPLES}"
        ) from error
    except (SQLAlchemyError, OptunaError, RuntimeError) as error:
        raise OutputError(
            f"a study goes into a database that Optuna can write, got {quoted(shown)}, which "
            f"refuses; mend it, or write to {EXAMPLES}"
        ) from error


def _url(place: str) -> URL:
    try:
        url = make_url(place)
        url.get_dialect()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise no_place(place) from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise SettingsError(
            f"a study goes into a file that stays, got {quoted(told(place))}; write to {EXAMPLES}"
        )
    return url


def _check_owner(url: URL, shown: str) -> None:
    """Refuse a database that holds tables, and none of Optuna's.

    Raises:
        OutputError: If it is one, such as the store of a run.
    """
    engine = create_engine(url)
    try:
        tables = set(inspect(engine).get_table_names())
    finally:
        engine.dispose()
    if tables and _table(models.StudyModel).name not in tables:
        raise OutputError(
            f"a study goes into a database of Optuna, or into a new one, got {quoted(shown)}, "
            f"which is another program's; write to {EXAMPLES}"
        )


def _add_study(connection: Connection, study: Study, shown: str, progress: Progress) -> None:
    studies = _table(models.StudyModel)
    twins = select(studies.c.study_id).where(studies.c.study_name == study.name)
    if connection.execute(twins).first():
        raise study.refuse_twin(shown)
    study_id = _add(connection, models.StudyModel, study_name=study.name)
    for objective, _ in enumerate(study.metric_names):
        direction = {"objective": objective, "direction": StudyDirection.MINIMIZE}
        _add(connection, models.StudyDirectionModel, study_id=study_id, **direction)
    names = {"key": _METRIC_NAMES, "value_json": json.dumps(study.metric_names)}
    _add(connection, models.StudySystemAttributeModel, study_id=study_id, **names)
    count = len(study.trials)
    for begin in range(0, count, _BATCH):
        _add_trials(connection, study_id, begin, study.trials[begin : begin + _BATCH])
        progress.advance(min(begin + _BATCH, count), count)


def _add_trials(
    connection: Connection, study_id: int, begin: int, trials: Sequence[FrozenTrial]
) -> None:
    rows: Rows = defaultdict(list)
    for number, trial in enumerate(trials, begin):
        trial_id = _add(
            connection,
            models.TrialModel,
            study_id=study_id,
            number=number,
            state=trial.state,
            datetime_start=_utc(trial.datetime_start),
            datetime_complete=_utc(trial.datetime_complete),
        )
        for model, found in _rows_of(trial).items():
            rows[model] += [{"trial_id": trial_id} | row for row in found]
    for model, found in rows.items():
        connection.execute(insert(_table(model)), found)


def _rows_of(trial: FrozenTrial) -> Rows:
    """Return what is written of a trial besides its own row; no table without rows."""
    finite = models.TrialValueModel.TrialValueType.FINITE
    rows: Rows = {
        models.TrialParamModel: [
            {"param_name": name, "param_value": level, "distribution_json": _written(site)}
            for (name, level), site in zip(
                trial.params.items(), trial.distributions.values(), strict=True
            )
        ],
        models.TrialValueModel: [
            {"objective": objective, "value": value, "value_type": finite}
            for objective, value in enumerate(trial.values or ())
        ],
        models.TrialUserAttributeModel: [
            {"key": key, "value_json": json.dumps(value)}
            for key, value in trial.user_attrs.items()
        ],
    }
    return {model: found for model, found in rows.items() if found}


@cache
def _written(site: BaseDistribution) -> str:
    return distribution_to_json(site)


def _add(connection: Connection, model: Any, **values: Any) -> int:
    """Add a row, and return its number."""
    added = connection.execute(insert(_table(model)).values(values))
    (number,) = added.inserted_primary_key or (0,)
    return int(number)


def _table(model: Any) -> Table:
    table: Table = model.__table__
    return table


def _utc(moment: datetime | None) -> datetime | None:
    """Return a moment as Optuna stores it."""
    return moment and moment.astimezone(UTC).replace(tzinfo=None)
