"""Tasks from files: found with their data, and no code of theirs runs unless it is trusted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search_spaces.errors import SettingsError
from tests.planner.evaluate.tiny_task import SAMPLES, TASK


def load(named: object, *, trusted: bool = False, num_fewshot: int | None = None) -> list[Any]:
    from planner.evaluate.task_list import load_tasks

    return load_tasks(str(named), trusted=trusted, num_fewshot=num_fewshot)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What code beside a task makes when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def with_code(tasks: Path, mark: Path) -> Path:
    """The folder, with Python code beside the task."""
    code = f"open({str(mark)!r}, 'w').close()\ndef text(doc):\n    return doc['query']\n"
    (tasks / "code.py").write_text(code, encoding="utf-8")
    return tasks


def edit(tasks: Path, old: str, new: str) -> Path:
    assert old in TASK
    path = tasks / "tiny.yaml"
    path.write_text(TASK.replace(old, new), encoding="utf-8")
    return path


def test_data_lies_beside_its_file_wherever_one_works(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for named in (tasks, tasks / "tiny.yaml", "tasks", f"tasks , {tasks}"):
        (task,) = load(named)
        assert task.task_name == "tiny"
        assert len(task.eval_docs) == SAMPLES


def test_solved_samples_are_set_where_the_task_leaves_it_open(
    tasks: Path, notices: list[str]
) -> None:
    assert load(tasks)[0].get_config("num_fewshot") == 0
    edit(tasks, "test_split: test\n", "test_split: test\nfewshot_split: test\n")
    assert load(tasks, num_fewshot=2)[0].get_config("num_fewshot") == 2
    edit(tasks, "test_split: test\n", "test_split: test\nnum_fewshot: 0\n")
    assert load(tasks, num_fewshot=2)[0].get_config("num_fewshot") == 0
    assert notices == ["tiny is asked without solved samples, as its file says"]


FUNCTION = ('doc_to_text: "{{query}}"', "doc_to_text: !function code.text")


def test_code_beside_a_task_runs_if_it_is_trusted(with_code: Path, mark: Path) -> None:
    edit(with_code, *FUNCTION)
    with pytest.raises(SettingsError, match=r"names some in line 8; .*trust_remote_code"):
        load(with_code)
    assert not mark.exists()
    (task,) = load(with_code, trusted=True)
    assert mark.exists()
    assert task.doc_to_text({"query": "w3"}) == "w3"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.getcwd []", "!other x"])
def test_no_other_tag_is_read(tag: str, tasks: Path) -> None:
    edit(tasks, "task: tiny\n", f"task: tiny\nmetadata: {tag}\n")
    with pytest.raises(SettingsError, match="names some in line 2"):
        load(tasks)


def test_code_is_not_included_either(with_code: Path, mark: Path) -> None:
    place = with_code / "elsewhere"
    place.mkdir()
    (place / "base.txt").write_text("doc_to_text: !function code.text\n", encoding="utf-8")
    (with_code / "code.py").rename(place / "code.py")
    edit(with_code, FUNCTION[0], "include: elsewhere/base.txt")
    with pytest.raises(SettingsError, match=r"base\.txt` names some in line 1"):
        load(with_code)
    assert not mark.exists()


def test_templates_reach_no_code(tasks: Path, mark: Path) -> None:
    attack = f"{{{{ cycler.__init__.__globals__.os.mkdir('{mark}') }}}}"
    path = edit(tasks, "{{query}}", attack)
    with pytest.raises(SettingsError, match=r"`tiny` must be one that .* ends in SecurityError"):
        load(path)
    assert not mark.exists()
    load(path, trusted=True)  # the attack is one
    assert mark.exists()


@pytest.mark.parametrize(
    "metric", ["metric: rouge_of_mine\n", "metric: acc\n    hf_evaluate: true\n"]
)
def test_metrics_are_not_fetched_as_code(metric: str, tasks: Path) -> None:
    edit(tasks, "metric: acc\n", metric)
    with pytest.raises(SettingsError, match="a metric that is fetched as code must be trusted"):
        load(tasks)


def test_what_a_model_writes_is_not_run(tasks: Path) -> None:
    edit(tasks, "task: tiny\n", "task: tiny\nunsafe_code: true\n")
    with pytest.raises(SettingsError, match="must not run code that a model writes"):
        load(tasks, trusted=True)


def test_a_script_of_a_data_set_does_not_run(with_code: Path, mark: Path) -> None:
    edit(with_code, "dataset_path: json", f"dataset_path: {with_code / 'code.py'}")
    with pytest.raises(SettingsError, match="the task `tiny` must be one"):
        load(with_code)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("test: tiny.jsonl", "test: gone.jsonl", "the data of the task `tiny` must be there"),
        ("test_split: test", "test_split: train", "ends in KeyError"),
        ("doc_to_choice: choices", "doc_to_choice: '{{chioces}}'", "ends in UndefinedError"),
        ("output_type: multiple_choice", "output_type: [", "is none in line"),
        ("task: tiny", "tsk: tiny", "must give it a name of its own"),
    ],
)
def test_files_with_mistakes(old: str, new: str, said: str, tasks: Path) -> None:
    path = edit(tasks, old, new)
    with pytest.raises(SettingsError, match=said) as caught:
        load(path)
    assert len(str(caught.value)) <= 300


def test_two_tasks_of_a_name_are_refused(tasks: Path) -> None:
    (tasks / "copy.yaml").write_text(TASK, encoding="utf-8")
    with pytest.raises(SettingsError, match="a name of its own"):
        load(tasks)


def test_a_folder_without_tasks(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must hold YAML files"):
        load(tmp_path)


def test_an_unknown_name_is_told_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an index of three tasks: that of the harness takes seconds to read."""
    from planner.evaluate import task_list

    names = ["arc_easy", "hellaswag", "piqa"]
    index = SimpleNamespace(
        all_tasks=names, task_index=dict.fromkeys(names, SimpleNamespace(yaml_path=None))
    )
    monkeypatch.setattr(task_list, "TaskManager", lambda **_: index)
    with pytest.raises(SettingsError, match="`hellaswg`; did you mean `hellaswag`"):
        load("hellaswg")
    with pytest.raises(SettingsError, match="`zzz`; `lm-eval ls tasks` lists them"):
        load("zzz")


def test_data_of_the_hub_is_named_if_it_is_out_of_reach(
    tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    edit(tasks, "dataset_path: json", "dataset_path: nobody/nothing")
    with pytest.raises(SettingsError, match="must be here or be fetched, and it is neither"):
        load(tasks)
