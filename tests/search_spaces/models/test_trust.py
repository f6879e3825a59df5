"""No code, no pickle and no file from elsewhere is touched unless this caller said so."""

import ast
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces.errors import ModelError
from search_spaces.models import Offload
from search_spaces.models.loading import load_model
from search_spaces.models.trust import load_tokenizer
from tests.models.damage import PLANTED_CODE

PACKAGES = ("planner", "evaluators", "search_spaces")
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "runpy", "shelve"}
"""Modules that run what they read."""
NAMES = {
    "TaskManager",
    "custom_generate",
    "exec_module",
    "for_model",
    "from_config",
    "from_pretrained",
    "get_class_from_dynamic_module",
    "get_kernel",
    "import_module",
    "load_dataset",
    "load_from_disk",
    "pipeline",
    "read_pickle",
    "spec_from_file_location",
}
"""Functions that run code which they are given a name or a place of, whosever they are."""
BUILT_IN = {"__import__", "compile", "eval", "exec"}
OF_MODULES = {
    "torch": {"load", "hub"},
    "np": {"load"},
    "numpy": {"load"},
    "yaml": {"load", "load_all", "full_load", "unsafe_load", "safe_load", "safe_load_all"},
}
"""Those with names that others have too."""
TRUST = "search_spaces/models/trust.py"
ALLOWED: dict[tuple[str, str], str] = {
    (TRUST, "from_pretrained"): "the one place that decides",
    (TRUST, "from_config"): "the one place that decides",
    (TRUST, "for_model"): "a class of transformers by its family, to find the field at fault",
    ("evaluators/data/hub_data_set.py", "load_dataset"): "runs no scripts since datasets 4",
    ("evaluators/quality/__init__.py", "import_module"): "files of ours, by the table of metrics",
    ("evaluators/costs/cost_model.py", "import_module"): "files of ours, by the table of metrics",
    ("planner/evaluate/task_list.py", "TaskManager"): "of files that `task_trust` has looked at",
    ("planner/__init__.py", "import_module"): "names of ours, in a table there",
    ("planner/cli/main.py", "import_module"): "names of ours, in a table there",
    ("planner/targets/gguf/gguf_runtime.py", "import_module"): "a package by its name there",
    ("planner/targets/onnx/onnx_runtime.py", "import_module"): "a package by its name there",
    ("planner/targets/onnx/other_readers.py", "import_module"): "packages by their names there",
    ("planner/targets/registration.py", "get_class_from_dynamic_module"): "a text equal to ours",
    ("planner/workers/serving.py", "pickle"): "of a search, by the line it began us with",
    ("planner/workers/on_ray/ray_worker.py", "pickle"): "writes only",
    ("planner/targets/trial_server.py", "import_module"): "modules that a target of ours names",
    ("planner/cli/commands/search_command.py", "pipeline"): "of workers: a setting of ours",
    ("planner/searching/scorer.py", "pipeline"): "the same",
    ("planner/settings/cross_checks.py", "pipeline"): "the same",
    ("planner/settings/search.py", "pipeline"): "the same",
    ("planner/workers/backends.py", "pipeline"): "the same",
}
"""Where such a function may stand, and why."""


def loading_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names of all that loads or runs what may be a user's, called or passed on."""
    safe = {
        call.func
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and any(
            keyword.arg == "allow_pickle" and ast.unparse(keyword.value) == "False"
            for keyword in call.keywords
        )
    }
    for node in ast.walk(tree):
        if node not in safe:
            yield from names_of(node)


def names_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        case ast.ImportFrom():
            module = (node.module or "").partition(".")[0]
            own = OF_MODULES.get(module, set()) | NAMES
            yield from (a.name for a in node.names if module in MODULES or a.name in own)
        case ast.Attribute():
            owner = ast.unparse(node.value)
            if node.attr in NAMES:
                yield node.attr
            elif node.attr in OF_MODULES.get(owner, set()):
                yield f"{owner}.{node.attr}"
        case ast.Name() if node.id in NAMES | BUILT_IN:
            yield node.id
        case ast.keyword() if node.arg in NAMES:
            yield str(node.arg)


def test_the_product_loads_in_places_that_are_known_alone() -> None:
    found = {
        (path.as_posix(), name)
        for package in PACKAGES
        for path in sorted(Path(package).rglob("*.py"))
        for name in loading_names(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == ALLOWED.keys()


@pytest.mark.parametrize(
    "line",
    [
        "transformers.AutoModel.from_pretrained(folder)",
        "load = AutoConfig.from_pretrained",
        "importlib.import_module(name)",
        "from importlib import import_module as get",
        "torch.load(path, weights_only=True)",
        "from torch import load",
        "import pickle",
        "from pickle import loads",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.safe_load(text)",
        "datasets.load_from_disk(path)",
        "exec(text)",
        "eval(text)",
        "model.generate(custom_generate=folder)",
    ],
)
def test_the_walk_finds_each_way_of_loading(line: str) -> None:
    assert list(loading_names(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    ["np.load(path, allow_pickle=False)", "model.eval()", "re.compile(text)", "json.load(f)"],
)
def test_the_walk_leaves_out_what_runs_nothing(line: str) -> None:
    assert not list(loading_names(ast.parse(line)))


OWN = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
OWN_TOKENIZER = {"AutoTokenizer": [None, "own.OwnTokenizer"]}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What code in the model's folder makes when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def folder(saved_llama: Path, tmp_path: Path, mark: Path) -> Path:
    """A copy of the saved Llama with code beside it that nothing names yet."""
    copied = tmp_path / "model"
    shutil.copytree(saved_llama, copied)
    code = PLANTED_CODE.replace("__MARK__", repr(str(mark)))
    (copied / "custom_generate").mkdir()
    for path in (copied / "own.py", copied / "custom_generate" / "generate.py"):
        path.write_text(code, encoding="utf-8")
    return copied


def edit(path: Path, **values: object) -> None:
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**held, **values}), encoding="utf-8")


@pytest.mark.parametrize("offload", ["never", "always"])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("module", ["own", "gone"])
def test_a_known_family_is_loaded_as_itself_whatever_code_it_names(
    module: str, trusted: bool, offload: Offload, folder: Path, mark: Path
) -> None:
    named = {auto: name.replace("own.", f"{module}.") for auto, name in OWN.items()}
    edit(folder / "config.json", auto_map=named)
    loaded = load_model(str(folder), trust_remote_code=trusted, offload=offload)
    assert type(loaded.model).__module__.startswith("transformers.models.llama.")
    assert not hasattr(loaded.model.config, "auto_map")
    assert loaded.model.name_or_path == str(folder)
    assert not mark.exists()


@pytest.mark.parametrize("offload", ["never", "always"])
def test_a_family_of_its_own_runs_if_it_is_trusted(
    offload: Offload, folder: Path, mark: Path
) -> None:
    edit(folder / "config.json", model_type="own", auto_map=OWN, architectures=["OwnForCausalLM"])
    with pytest.raises(ModelError, match=r"code of its own must be trusted.*trust_remote_code"):
        load_model(str(folder), offload=offload)
    assert not mark.exists()
    loaded = load_model(str(folder), trust_remote_code=True, offload=offload)
    assert mark.exists()
    assert type(loaded.model).__name__ == "OwnForCausalLM"


def test_a_tokenizer_of_its_own_runs_if_it_is_trusted(folder: Path, mark: Path) -> None:
    settings = folder / "tokenizer_config.json"
    edit(settings, auto_map=OWN_TOKENIZER, tokenizer_class="OwnTokenizer")
    for load in (load_model, lambda name: load_tokenizer(name, trust_remote_code=False)):
        with pytest.raises(ModelError, match=r"a tokenizer that brings .*trust_remote_code"):
            load(str(folder))
    assert not mark.exists()
    loaded = load_model(str(folder), trust_remote_code=True)
    assert mark.exists()
    assert loaded.tokenizer("w3 w95").input_ids == [3, 95]


def test_a_tokenizer_of_a_known_class_forgets_its_code(folder: Path, mark: Path) -> None:
    edit(folder / "tokenizer_config.json", auto_map=OWN_TOKENIZER)
    loaded = load_model(str(folder))
    assert not mark.exists()
    loaded.tokenizer.save_pretrained(folder / "saved")
    assert "own." not in (folder / "saved" / "tokenizer_config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("trusted", [False, True])
def test_generating_takes_no_code_from_the_folder(trusted: bool, folder: Path, mark: Path) -> None:
    loaded = load_model(str(folder), trust_remote_code=trusted)
    tokens = loaded.tokenizer("w3 w95", return_tensors="pt").input_ids
    assert loaded.model.generate(tokens, max_new_tokens=2).shape == (1, 4)  # type: ignore[operator]
    assert not mark.exists()


class Planted:
    """Makes a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.mkdir, (str(self.mark),)  # type: ignore[return-value]


def sharded(folder: Path, *files: str) -> None:
    """Spread the weights over files that an index names."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    index = {name: files[number % len(files)] for number, name in enumerate(names)}
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({n: weights[n] for n in names if index[n] == file}, path, {"format": "pt"})
    edit(folder / "model.safetensors.index.json", weight_map=index)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "sub/weights.ckpt", "x.pkl"])
@pytest.mark.parametrize("offload", ["never", "always"])
def test_an_index_that_names_a_pickle_is_refused_before_it_is_opened(
    name: str, offload: Offload, folder: Path, mark: Path
) -> None:
    sharded(folder, name)
    (folder / name).write_bytes(pickle.dumps(Planted(mark)))
    with pytest.raises(ModelError, match="must be safetensors files, for pickles may run code"):
        load_model(str(folder), offload=offload)
    assert not mark.exists()


@pytest.mark.parametrize(
    "file", ["model.safetensors", "adapter_model.bin", "pytorch_model.bin", ".metadata"]
)
def test_a_pickle_under_any_name_is_not_opened(file: str, folder: Path, mark: Path) -> None:
    sharded(folder, "shard-00001-model-00001-of-00001.safetensors")
    (folder / file).write_bytes(pickle.dumps(Planted(mark)))
    if file == "model.safetensors":
        with pytest.raises(ModelError, match="must be a whole safetensors file"):
            load_model(str(folder))
    else:
        load_model(str(folder))
    assert not mark.exists()


@pytest.mark.parametrize("offload", ["never", "always"])
@pytest.mark.parametrize("place", ["../outside/{}", "{outside}/{}", "sub/../../outside/{}"])
def test_an_index_does_not_lead_out_of_the_folder(
    place: str, offload: Offload, folder: Path
) -> None:
    outside = folder.parent / "outside"
    sharded(folder, "x.safetensors")
    outside.mkdir()
    (folder / "x.safetensors").rename(outside / "x.safetensors")
    (folder / "sub").mkdir()
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    name = place.format("x.safetensors", outside=outside)
    edit(
        folder / "model.safetensors.index.json",
        weight_map=dict.fromkeys(index["weight_map"], name),
    )
    with pytest.raises(
        ModelError, match=r"must lie in the model's folder, and model\.safetensors\.in"
    ):
        load_model(str(folder), offload=offload)


@pytest.mark.parametrize("offload", ["never", "always"])
@pytest.mark.parametrize("files", [["model.safetensors"], ["a.safetensors", "b.safetensors"]])
def test_weights_are_no_links_out_of_the_folder(
    files: list[str], offload: Offload, folder: Path
) -> None:
    if len(files) > 1:
        sharded(folder, *files)
    (folder / files[-1]).rename(folder.parent / "outside.safetensors")
    (folder / files[-1]).symlink_to("../outside.safetensors")
    with pytest.raises(ModelError, match="is a link that leads outside"):
        load_model(str(folder), offload=offload)


def test_the_file_that_a_config_names_lies_in_the_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "model.safetensors").rename(folder / "sub" / "own.safetensors")
    edit(folder / "config.json", transformers_weights="sub/own.safetensors")
    before = load_model(str(folder))
    assert not hasattr(before.model.config, "transformers_weights")
    edit(folder / "config.json", transformers_weights="../model/sub/own.safetensors")
    with pytest.raises(ModelError, match=r"and config\.json of .* names .* outside"):
        load_model(str(folder))


@pytest.mark.parametrize("offload", ["never", "always"])
def test_a_snapshot_in_a_cache_of_the_hub_is_read_through_its_links(
    offload: Offload, folder: Path, saved_llama: Path, tmp_path: Path
) -> None:
    sharded(folder, "a.safetensors", "b.safetensors")
    snapshot, blobs = (
        tmp_path / "models--a--b" / "snapshots" / "main",
        tmp_path / "models--a--b/blobs",
    )
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(path for path in folder.iterdir() if path.is_file()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    loaded = load_model(str(snapshot), offload=offload)
    assert loaded.identity.fingerprint == load_model(str(saved_llama)).identity.fingerprint


def test_what_is_trusted_still_reads_no_pickle(folder: Path, mark: Path) -> None:
    sharded(folder, "weights.bin")
    torch.save(Planted(mark), folder / "weights.bin")
    with pytest.raises(ModelError, match="must be safetensors files"):
        load_model(str(folder), trust_remote_code=True)
    assert not mark.exists()
