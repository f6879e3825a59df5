"""The tasks that a user names, loaded: of lm-evaluation-harness, or from files of the user's."""

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import yaml
from lm_eval.tasks import TaskManager

from planner.evaluate.task_trust import check_task_files, harness, yaml_nodes
from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import InputError, SettingsError, quoted
from search_spaces.models.memory import is_out_of_memory
from search_spaces.paths import existing_path
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.suggestions import suggestion

logger = logging.getLogger(__name__)

_SUFFIXES = (".yaml", ".yml")
_FEWSHOT_SEED = 1234
"""That lm-evaluation-harness draws solved samples by."""


def load_tasks(
    named: str,
    *,
    trusted: bool,
    num_fewshot: int | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[Any]:
    """Load tasks with their data.

    Args:
        named: Names, YAML files and folders of them, comma separated.
        trusted: Whether tasks may run code of theirs, and of the hub.
        num_fewshot: Solved samples before each question; None: as each task says.
        progress: Advanced with the tasks.

    Returns:
        Tasks of lm-evaluation-harness, each once.

    Raises:
        SettingsError: If there is no such task, its data is not there, or it needs what is not
            allowed.
    """
    words = [word.strip() for word in named.split(",") if word.strip()]
    if not words:
        raise SettingsError(f"`tasks` must name one, got {named!r}; name some, or leave it out")
    paths = {word: path for word in words if (path := _path(word)) is not None}
    files = [file for path in paths.values() for file in _task_files(path)]
    if not trusted:
        check_task_files(files)
    tasks: dict[str, Any] = {}
    with (
        scratch_beside(Path(tempfile.gettempdir(), "planner-tasks")) as scratch,
        harness(trusted=trusted),
    ):
        links = _linked(files, scratch)
        manager = TaskManager(include_path=scratch, include_defaults=len(paths) < len(words))
        local = _local_members(manager, links, grouped=set(paths.values()))
        chosen = [*local, *_known_members(manager, [word for word in words if word not in paths])]
        for done, member in enumerate(chosen, 1):
            tasks |= _loaded(manager, member)
            progress.advance(done, len(chosen))
    for task in tasks.values():
        _check(task)
        _set_fewshot(task, num_fewshot)
    return list(tasks.values())


def _path(word: str) -> Path | None:
    """Return the file or folder that a word stands for; None: it is the name of a task.

    Raises:
        SettingsError: If it is written as a path, and nothing is there.
    """
    path = existing_path(word)
    if path.exists():
        return path
    if os.sep in word or path.suffix in _SUFFIXES:
        raise SettingsError(
            f"`tasks` must name what there is, and {quoted(word)} does not exist; check the path"
        )
    return None


def _task_files(path: Path) -> list[Path]:
    """Return a file, or the YAML files of a folder.

    Raises:
        SettingsError: If a folder holds none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for suffix in _SUFFIXES for file in path.rglob(f"*{suffix}"))
    if not files:
        raise SettingsError(
            f"a folder of tasks must hold YAML files, and {quoted(str(path))} holds none; name "
            "another"
        )
    return files


def _linked(files: Iterable[Path], scratch: Path) -> dict[Path, Path]:
    """Link files into a folder of ours, where nothing else is looked through; by their links."""
    links = {}
    for number, file in enumerate(dict.fromkeys(file.resolve() for file in files)):
        link = scratch / f"{number:04}.yaml"
        link.symlink_to(file)
        links[link] = file
    return links


def _local_members(
    manager: TaskManager, links: Mapping[Path, Path], grouped: Iterable[Path]
) -> list[dict[str, Any]]:
    """Return the tasks in files, as members of a group; of a folder the groups are left out.

    Args:
        manager: That has read the files.
        links: To the files.
        grouped: Files that were named themselves, and are taken if they hold a group.

    Raises:
        SettingsError: If a file holds a task that was not taken, or none holds any.
    """
    named = {path.resolve() for path in grouped}
    members = []
    taken = set()
    for name, entry in manager.task_index.items():
        if entry.yaml_path not in links:
            continue
        file = links[entry.yaml_path]
        taken.add(file)
        if entry.kind.name != "GROUP":
            members.append({"task": name, **_placed(entry.cfg, file.parent)})
        elif file in named:
            members.append({"group": name})
    for file in links.values():
        if file not in taken and (file in named or _holds_task(file)):
            raise SettingsError(
                "the file of a task must give it a name of its own, under `task`, and "
                f"{quoted(str(file))} does not; correct it"
            )
    return members


def _holds_task(file: Path) -> bool:
    root = yaml_nodes(file)
    keys = [key.value for key, _ in root.value] if isinstance(root, yaml.MappingNode) else []
    return "task" in keys


def _placed(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the change of a config by which its data is read from beside its file."""
    options = config.get("dataset_kwargs")
    if not isinstance(options, dict) or "data_files" not in options:
        return {}

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {split: placed(one) for split, one in value.items()}
        if isinstance(value, list):
            return [placed(one) for one in value]
        is_there = isinstance(value, str) and (folder / value).exists()
        return str(folder / value) if is_there else value

    return {"dataset_kwargs": {**options, "data_files": placed(options["data_files"])}}


def _known_members(manager: TaskManager, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield tasks, groups and tags of the harness as members of a group.

    Raises:
        SettingsError: If one has no such name.
    """
    for name in names:
        if name not in manager.task_index:
            remedy = suggestion(name, manager.all_tasks, "`lm-eval ls tasks` lists them")
            raise SettingsError(
                "`tasks` must be names that lm-evaluation-harness knows, or files, got "
                f"{quoted(name, 60)}; {remedy}"
            )
        is_group = manager.task_index[name].kind.name == "GROUP"
        yield {"group" if is_group else "task": name}


def _loaded(manager: TaskManager, member: Mapping[str, Any]) -> dict[str, Any]:
    """Load the tasks of a member of a group, by their names.

    Raises:
        SettingsError: If their data is not there, or the harness refuses them.
    """
    name = next(iter(member.values()))
    try:
        loaded: dict[str, Any] = manager.load({"group": "planner", "task": [member]})["tasks"]
    except InputError:
        raise
    except Exception as error:  # whatever a file of the user's or a data set may bring about
        if is_out_of_memory(error):
            raise
        raise _failure(name, error) from error
    return loaded


def _failure(name: str, error: Exception) -> SettingsError:
    shown, said = quoted(name, 60), str(error).lower()
    if isinstance(error, ImportError):
        package = quoted(getattr(error, "name", None) or "of its own", 40)
        return SettingsError(
            f"the task {shown} needs the package {package}, which is not installed; install it, "
            "or leave the task out"
        )
    if isinstance(error, ConnectionError) or "offline" in said or "couldn't reach" in said:
        rule = f"the data of the task {shown} must be here or be fetched, and it is neither"
        return SettingsError(
            f"{rule}, for the hub cannot be reached; check the network, or "
            "whether `HF_HUB_OFFLINE` is set"
        )
    if isinstance(error, FileNotFoundError | datasets.exceptions.DatasetNotFoundError):
        return SettingsError(
            f"the data of the task {shown} must be there, and its `dataset_path` or `data_files` "
            "names none that is; names of files are read from beside the task's file, or from "
            "the working folder"
        )
    return SettingsError(
        f"the task {shown} must be one that lm-evaluation-harness can load, and it ends in "
        f"{type(error).__name__}; correct its file or leave it out, `--debug` shows more"
    )


def _check(task: Any) -> None:
    """Refuse tasks that run what a model writes, or ask more than text.

    Raises:
        SettingsError: If it is one.
    """
    name = quoted(str(task.task_name), 60)
    if getattr(task, "UNSAFE_CODE", False):
        raise SettingsError(
            f"a task must not run code that a model writes, and {name} does; leave it out, or run "
            "it in a container by `lm-eval` itself"
        )
    if getattr(task, "MULTIMODAL", False):
        raise SettingsError(
            f"a task must ask in text alone, and {name} shows pictures or sounds; leave it out"
        )


def _set_fewshot(task: Any, count: int | None) -> None:
    """Set how many solved samples stand before each question, where the task leaves it open."""
    own = task.get_config("num_fewshot")
    if count is not None and own == 0 != count:
        logger.info("%s is asked without solved samples, as its file says", task.task_name)
    elif count is not None:
        task.set_config(key="num_fewshot", value=count)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=_FEWSHOT_SEED)
