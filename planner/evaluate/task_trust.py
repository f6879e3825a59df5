"""What tasks may do: their files name code only if they are trusted, and templates reach none.

lm-evaluation-harness imports Python files that a YAML file names by ``!function``, fetches metrics
of `evaluate` as code, and renders templates that reach all of Python. Code of its own package runs
like that of any package that is installed.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import datasets
import evaluate
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import yaml
from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from tqdm import tqdm

from search_spaces.errors import SettingsError, quoted

_PLAIN = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge")
)
"""Tags that a value has without one being written."""
_MOST_BYTES = 10_000_000


def check_task_files(paths: Iterable[Path]) -> None:
    """Refuse YAML files that name Python code, in themselves or in what they include.

    Raises:
        SettingsError: If one does, or cannot be read.
    """
    seen, waiting = set[Path](), [path.resolve() for path in paths]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            root = yaml_nodes(path)
            _check_tags(path, root)
            waiting += [(path.parent / name).resolve() for name in _included(root)]


def yaml_nodes(path: Path) -> yaml.Node | None:
    """Return the nodes of a YAML file, of which none is made a value.

    Raises:
        SettingsError: If it cannot be read, or is no YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
        node: yaml.Node | None = yaml.compose(content, Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(
            f"the files of a task must be there to be read, and {quoted(str(path))} is not; "
            "check `--tasks`, and `include` in its files"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(
            f"the file of a task must be YAML, and {quoted(str(path))} is none{line}; correct it"
        ) from error
    return node


def _included(root: yaml.Node | None) -> Iterator[str]:
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "include":
                named = value.value if isinstance(value, yaml.SequenceNode) else [value]
                yield from (str(one.value) for one in named)


def _check_tags(path: Path, root: yaml.Node | None) -> None:
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias may stand in itself
            continue
        seen.add(id(node))
        if node.tag not in _PLAIN:
            raise SettingsError(
                "a task that brings Python code of its own must be trusted, and "
                f"{quoted(str(path))} names some in line {node.start_mark.line + 1}; read it, "
                "then allow it with `--trust_remote_code`"
            )
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            waiting += [each for pair in node.value for each in pair]


@contextmanager
def harness(*, trusted: bool) -> Iterator[None]:
    """Let lm-evaluation-harness work quietly, and without code that is not trusted.

    Args:
        trusted: Whether tasks may run code of theirs, and of the hub.

    Raises:
        SettingsError: If a task fetches a metric as code, and is not trusted.
    """
    refused: list[SettingsError] = []
    patches = [*_silence(), *(() if trusted else _restraints(refused))]
    before = [getattr(module, name) for module, name, _ in patches]
    try:
        for module, name, value in patches:
            setattr(module, name, value)
        yield
    except Exception as error:
        raise refused[0] if refused else error from error
    finally:
        for (module, name, _), value in zip(patches, before, strict=True):
            setattr(module, name, value)
    if refused:  # which the harness goes on without, until it needs it
        raise refused[0]


def _silence() -> Iterator[tuple[Any, str, Any]]:
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    for module in (lm_eval.api.task, lm_eval.models.huggingface):
        yield module, "tqdm", functools.partial(tqdm, disable=True)


def _restraints(refused: list[SettingsError]) -> Iterator[tuple[Any, str, Any]]:
    def refuse(name: str, *_: object, **_options: object) -> NoReturn:
        error = SettingsError(
            f"a metric that is fetched as code must be trusted, and {quoted(str(name), 40)} is "
            "not; take another task or metric, or allow it with `--trust_remote_code`"
        )
        refused.append(error)
        raise error

    templates = SandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
    )
    templates.filters = lm_eval.utils.env.filters
    yield lm_eval.utils, "env", templates
    yield evaluate, "load", refuse
