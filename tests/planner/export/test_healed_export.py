"""An export is healed to an export: its files, its proof, and what is told of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from planner.cli.main import main
from planner.export.cards.manifest import Manifest
from planner.export.healing.heal_source import HealRequest
from planner.export.healing.healed_export import heal_export
from planner.export.healing.healed_folder import HealedFolder
from planner.export.healing.patient import Patient, text_source
from planner.recovery.recovery_record import RecoveryRecord
from planner.run import Run
from planner.settings.heal import HealSettings
from planner.targets.hf.loaded_folder import load_export
from search_spaces.errors import DataError, ModelError, SettingsError
from search_spaces.progress import NO_PROGRESS
from tests.planner.export.cards.manifests import MANIFEST
from tests.planner.recovery.healing.texts import random_text
from tests.settings import BUDGET
from tests.shared_folders import shared_folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_text(tmp_path_factory.mktemp("text") / "text.txt", 6000)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """An export of the small search; no test may change it."""

    def export(folder: Path) -> None:
        run = Run.open(searched)
        run.export(run.best(BUDGET).plan_id, folder)

    return shared_folder(tmp_path_factory, "exported-to-heal", export)


def _settings(folder: Path, data: Path | None, **changes: Any) -> HealSettings:
    values = {"window_tokens": 32, "windows": 4, "tokens": 2560, "lr": 3e-4, **changes}
    return HealSettings.checked(
        model=str(folder),
        data=data and str(data),
        fresh_windows=6,
        holdout_windows=6,
        **values,
    )


def test_an_export_is_healed_to_an_export(exported: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "healed"
    settings = _settings(exported, text, dtype="float32")
    healed = heal_export(exported, settings, out, NO_PROGRESS)
    assert healed.after is not None
    assert healed.after.fresh["kl"].value < healed.before["fresh"]["kl"].value
    before, after = (load_file(folder / "model.safetensors") for folder in (exported, out))
    assert {name: t.shape for name, t in before.items()} == {n: t.shape for n, t in after.items()}
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if ".layers." not in name}
    names = {path.name for path in exported.iterdir()}
    assert {path.name for path in out.iterdir()} == names
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text())
    assert manifest.recovery is not None
    assert manifest.recovery.recovery == "heal"
    assert manifest.recovery.curve[0].kl == pytest.approx(
        healed.before["fresh"]["kl"].value, rel=1e-4
    )
    assert manifest.holdout["kl"].value == healed.after.holdout["kl"].value
    card = " ".join((out / "README.md").read_text().split())
    assert f"trained end to end on {healed.after.tokens:,} tokens" in card
    assert "no training" not in card
    assert not list(tmp_path.glob("*.healing*"))
    load_export(out)


def test_healing_that_did_not_help_writes_nothing(
    exported: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "healed"
    settings = _settings(exported, text, lr=1.0, tokens=256)
    assert heal_export(exported, settings, out, NO_PROGRESS).after is None
    assert not list(tmp_path.iterdir())


def test_what_rounding_takes_away_is_not_written(
    exported: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = HealedFolder.__init__

    def unhealed(folder: HealedFolder, source: Path, _weights: object) -> None:
        whole(folder, source, {})  # as if all that was learned were less than a rounding

    monkeypatch.setattr(HealedFolder, "__init__", unhealed)
    healed = heal_export(exported, _settings(exported, text), tmp_path / "healed", NO_PROGRESS)
    assert healed.curve.helped
    assert healed.after is None
    assert not list(tmp_path.iterdir())


def test_an_export_whose_dense_model_changed_is_refused(
    exported: Path, text: Path, tmp_path: Path, saved_llama: Path
) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for path in exported.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    told = json.loads((folder / "manifest.json").read_text())
    told["model"]["fingerprint"] = "0" * 16
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match="model that it was made from"):
        heal_export(folder, _settings(folder, text), tmp_path / "out", NO_PROGRESS)


@pytest.mark.parametrize("content", [None, "{", "{}", '{"version": 2}'])
def test_a_folder_that_is_no_export_is_refused(
    content: str | None, text: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(ModelError, match="a run, or an export of this version"):
        heal_export(folder, _settings(folder, text), tmp_path / "out", NO_PROGRESS)


def test_an_export_of_the_models_own_text_needs_other_text(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name some with `--data`"):
        heal_export(exported, _settings(exported, None), tmp_path / "out", NO_PROGRESS)


def test_what_was_held_out_of_a_search_stays_held_out(exported: Path) -> None:
    manifest = Manifest.model_validate_json((exported / "manifest.json").read_text())
    assert manifest.text_options == {}  # the model wrote its text
    options = {"split": "validation", "column": "words", "holdout": "owner/other"}
    searched = manifest.model_copy(update={"text": "owner/name", "text_options": options})
    source = text_source(searched, _settings(exported, None))
    assert (source.data, source.holdout) == ("owner/name", "owner/other")
    assert (source.split, source.column) == ("validation", "words")
    given = _settings(exported, Path("owner/name"), split="test")
    source = text_source(searched, given)
    assert (source.split, source.column, source.holdout) == ("test", "text", "owner/other")
    assert text_source(searched, _settings(exported, Path("more/text"))).holdout is None


@pytest.mark.parametrize(
    ("request_", "is_run", "said"),
    [
        (HealRequest(), True, "got none"),
        (HealRequest(knee=True, budget="0.5x"), True, "got `--budget` and `--knee`"),
        (
            HealRequest(front=True, out=Path("out")),
            True,
            r"export each by .*ID\+heal",
        ),
        (HealRequest(), False, "`--out` must name"),
        (HealRequest(plan="abc", out=Path("out")), False, "takes no `--plan`"),
    ],
)
def test_what_does_not_go_together_is_refused(
    request_: HealRequest, is_run: bool, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        request_.check(is_run=is_run)


def test_the_command_heals_a_plan_and_exports_it(
    searched_copy: Path,
    text: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # refitted first, it has nothing left to learn from text of random words
    monkeypatch.setattr(
        "planner.export.healing.heal_source.beginning", lambda _run, _prepared, plan, _: plan
    )
    words = [f"--budget={BUDGET}", f"--data={text}", "--tokens=2560", "--windows=4"]
    more = ["--window_tokens=32", "--lr=3e-4", f"--out={tmp_path / 'healed'}"]
    assert main(["heal", str(searched_copy), *words, *more]) == 0
    said = capsys.readouterr().out
    assert "KL on fresh text" in said
    assert "KL on held-out text" in said
    manifest = Manifest.model_validate_json((tmp_path / "healed" / "manifest.json").read_text())
    assert manifest.recovery is not None


def test_text_that_was_trained_on_before_is_told(
    text: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = RecoveryRecord(
        plan_id="a", recovery="heal", origin="", settings={"data": str(text)}, tokens=1, seconds=1
    )
    manifest = MANIFEST.model_copy(update={"recovery": record})
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    for options, is_told in (({}, True), ({"holdout": str(text)}, False)):
        caplog.clear()
        with pytest.raises(ModelError):  # there is no such dense model
            Patient.admitted(tmp_path, _settings(tmp_path, text, **options), NO_PROGRESS)
        assert ("were trained on" in caplog.text) == is_told


def test_the_command_heals_a_front(
    searched_copy: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--front", f"--data={text}", "--tokens=512", "--windows=2", "--window_tokens=32"]
    assert main(["heal", str(searched_copy), *words]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the front, KL as a share of what it was:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plan=nosuchplan"], "must be named by its id in this run"),
        (["--budget=params<=0.01x"], "params"),
        (["--plan=a1b2c3d4e5+other"], "must be followed by one of"),
        (["--knee", "--minutes=0"], "`minutes` must be above 0"),
    ],
)
def test_what_a_run_lacks_is_told_before_its_model_is_opened(
    words: list[str],
    said: str,
    searched: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def opened(*_: object) -> None:
        pytest.fail("a model was opened")

    monkeypatch.setattr("planner.recovery.opened_run.open_model", opened)
    assert main(["heal", str(searched), *words]) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("planner: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert len(lines[0]) <= 300


def test_a_folder_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["heal", str(tmp_path / "none")]) == 2
    assert "must be the folder of a run or of an export, got none" in capsys.readouterr().err
