"""A run as a study of Optuna, as Optuna and its plots read it."""

import json
import shutil
import sqlite3
import warnings
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState

from planner.cli.main import main
from planner.reports.studies.export_study import export_study
from planner.reports.studies.study_place import told
from planner.run import Run
from planner.runs.folder import SPACE_FILE
from search_spaces.errors import OutputError, RunError, SettingsError
from tests.planner.cli.commands import refused
from tests.problems.toy_run import FRONT, toy_evaluations
from tests.problems.toy_search import SITES, TOP, evaluation
from tests.progress import RecordedProgress


@pytest.fixture
def run(toy: Run) -> Run:
    return toy


@pytest.fixture(params=["database", "journal"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to write: a database or a journal."""
    if request.param == "database":
        return f"sqlite:///{tmp_path}/study.db"
    return f"{tmp_path}/study.log"


def load(place: str, name: str) -> optuna.Study:
    storage = place if "://" in place else JournalStorage(JournalFileBackend(place))
    return optuna.load_study(study_name=name, storage=storage)


def test_each_plan_is_a_trial(run: Run, place: str) -> None:
    assert export_study(run, place) == "toy"
    study = load(place, "toy")
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]
    assert study.metric_names == ["kl", "params"]
    evaluations = toy_evaluations()
    assert [trial.number for trial in study.trials] == [*range(len(evaluations))]
    for trial, plan, landed in zip(study.trials, evaluations, run.landed(), strict=True):
        assert tuple(trial.params.values()) == plan.genome
        assert [*trial.params] == [f"layers.{layer}.mlp" for layer in range(8)]
        assert trial.user_attrs["plan_id"] == plan.plan_id
        assert trial.datetime_complete is not None
        assert trial.datetime_complete.astimezone(UTC) == landed.created_at
        if plan.score.failure is None:
            assert trial.values == pytest.approx([plan.score.mean("kl"), plan.costs["params"]])
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE] * 4 + [TrialState.PRUNED, TrialState.FAIL]


def test_what_else_is_known_of_a_plan_are_its_attributes(run: Run, place: str) -> None:
    export_study(run, place)
    study = load(place, "toy")
    good, wasteful, ruined = (study.trials[number].user_attrs for number in (1, 3, 5))
    assert good["kl_se"] == pytest.approx(0.01)
    assert good["size"] == pytest.approx(1200.0)
    assert (good["fresh_kl"], good["holdout_kl_se"]) == (0.2, 0.02)
    assert "fresh_kl" not in wasteful
    assert wasteful["baseline"] == "uniform"
    assert ruined["failure"] == "ruined"
    assert "kl_se" not in ruined


def test_nothing_is_said_aside(run: Run, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    export_study(run, place)
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before


def test_its_front_is_that_of_the_run(run: Run, place: str) -> None:
    export_study(run, place)
    best = load(place, "toy").best_trials
    assert {trial.user_attrs["plan_id"] for trial in best} == {*FRONT}


def test_plots_of_optuna_show_it(run: Run, place: str) -> None:
    export_study(run, place)
    study = load(place, "toy")
    front = optuna.visualization.plot_pareto_front(study)
    assert front.layout.xaxis.title.text == "kl"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        slices = optuna.visualization.plot_slice(
            study, target=lambda trial: trial.values[0], target_name="kl"
        )
    assert len(slices.data) == 8


def test_its_dashboard_shows_it(run: Run, place: str) -> None:
    import optuna_dashboard

    export_study(run, place)
    study = load(place, "toy")
    app, number = optuna_dashboard.wsgi(study._storage), study._study_id
    ((listed,),) = [json.loads(get(app, "/api/studies"))["study_summaries"]]
    assert (listed["study_name"], listed["directions"]) == ("toy", ["minimize", "minimize"])
    shown = json.loads(get(app, f"/api/studies/{number}"))
    states = [trial["state"] for trial in shown["trials"]]
    assert states == ["Complete"] * 4 + ["Pruned", "Fail"]
    assert len(shown["best_trials"]) == len(FRONT)
    importances = json.loads(get(app, f"/api/studies/{number}/param_importances"))
    assert len(importances["param_importances"][0]) == 8


def get(app: Any, path: str) -> str:
    """Ask a server without a network."""
    statuses: list[str] = []
    environment: dict[str, Any] = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    body = b"".join(app(environment, lambda status, *_: statuses.append(status)))
    assert statuses == ["200 OK"]
    return body.decode()


def test_others_of_the_same_place_stay(run: Run, place: str) -> None:
    storage = place if "://" in place else JournalStorage(JournalFileBackend(place))
    optuna.create_study(study_name="mine", storage=storage).add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    export_study(run, place)
    assert load(place, "mine").best_value == 1.0
    assert len(load(place, "toy").trials) == 6
    export_study(run, place, "again")
    assert [trial.number for trial in load(place, "again").trials] == [*range(6)]


def test_a_database_of_another_program_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    """Such as the store of the run itself."""
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    store = folder / "run.sqlite"
    before = store.read_bytes()
    with pytest.raises(OutputError, match="which is another program's"):
        export_study(run, f"sqlite:///{store}")
    assert store.read_bytes() == before


def test_progress_ends_when_all_is_written(
    run: Run, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("study_tables", "study_journal"):
        monkeypatch.setattr(f"planner.reports.studies.{module}._BATCH", 4)
    progress = RecordedProgress()
    export_study(run, place, progress=progress)
    assert progress.counts == [(4, 6), (6, 6)]


def test_no_password_is_told() -> None:
    assert told("mysql+pymysql://me:a:b@c@host/db") == "mysql+pymysql://me:***@host/db"
    assert told("mysql://host/db?password=secret&x=1") == "mysql://host/db?password=***&x=1"
    assert [told(place) for place in ("sqlite:////a/b@c.db", "a:b.log")] == [
        "sqlite:////a/b@c.db",
        "a:b.log",
    ]


def test_a_name_that_is_taken_is_refused(run: Run, place: str) -> None:
    export_study(run, place)
    with pytest.raises(SettingsError, match="a study must have a name of its own in"):
        export_study(run, place)
    assert len(load(place, "toy").trials) == 6


class _Stop(RecordedProgress):
    """Ends the process, as it were, while plans are written."""

    def advance(self, done: int, total: int) -> None:
        raise KeyboardInterrupt


def test_it_is_written_whole_or_not_at_all(run: Run, place: str, tmp_path: Path) -> None:
    before = {*tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        export_study(run, place, progress=_Stop())
    assert {*tmp_path.iterdir()} == before
    export_study(run, place, "first")
    with pytest.raises(KeyboardInterrupt):
        export_study(run, place, progress=_Stop())
    with pytest.raises(KeyError):
        load(place, "toy")
    assert len(load(place, "first").trials) == 6


def test_a_run_in_a_file_that_is_none_is_refused(run: Run, place: str, tmp_path: Path) -> None:
    path = tmp_path / Path(place).name
    path.write_bytes(b"something else, and quite long\n" * 100)
    with pytest.raises(OutputError):
        export_study(run, place)
    assert path.read_bytes() == b"something else, and quite long\n" * 100


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("study.db", "a study goes into a database such as sqlite:///study.db, or a file"),
        ("nonsense://study.db", "a study goes into a database such as"),
        ("sqlite://", "a study goes into a file that stays"),
        ("sqlite:////nowhere/at/all/study.db", "its folder does not exist; make it first"),
        ("/nowhere/at/all/study.log", "its folder does not exist; make it first"),
        ("postgresql+pg8000://me:secret@nowhere/x", "needs the driver of its database"),
        ("postgresql+nosuch://me:secret@nowhere/x", "a study goes into a database such as"),
        ("postgresql://me:secret@nowhere:port/x", "a study goes into a database such as"),
        ("postgresql:/me:secret@nowhere/x", "a study goes into a database such as"),
        ("sqlite://?password=secret", "a study goes into a file that stays"),
    ],
)
def test_a_place_that_is_none_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], place: str, said: str
) -> None:
    message = refused(capsys, "export-study", str(run.folder), place)
    assert said in message
    assert "secret" not in message


def test_a_run_that_lost_its_space_says_so(toy_copy: Run, place: str) -> None:
    (toy_copy.folder / SPACE_FILE).unlink()
    with pytest.raises(RunError, match="must say in version 3 what the search chooses among"):
        export_study(toy_copy, place)


def test_a_plan_that_is_none_of_the_space_is_named(toy_copy: Run, place: str) -> None:
    stranger = evaluation((TOP, *(0,) * (SITES - 1)))
    toy_copy.record(replace(stranger, genome=(TOP + 1, *(0,) * (SITES - 1))))
    with pytest.raises(RunError, match=f"plan {stranger.plan_id} is none of its search space"):
        export_study(toy_copy, place)


def test_a_long_name_is_refused(run: Run, place: str) -> None:
    with pytest.raises(SettingsError, match="`--name` must have at most 512 letters, got 513"):
        export_study(run, place, "x" * 513)


def test_the_command_writes_a_search(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "run"))
    url = f"sqlite:///{tmp_path}/study.db"
    assert main(["export-study", str(folder), url, "--name", "tiny"]) == 0
    assert f"`optuna-dashboard {url}`" in capsys.readouterr().out
    with Run.open(folder) as run:
        assert len(load(url, "tiny").trials) == len(run.landed())
        best = {trial.user_attrs["plan_id"] for trial in load(url, "tiny").best_trials}
        assert {plan.plan_id for plan in run.front_plans()} <= best
    with sqlite3.connect(tmp_path / "study.db") as database:
        (version,) = database.execute("select schema_version from version_info").fetchone()
    database.close()
    assert version >= 12
