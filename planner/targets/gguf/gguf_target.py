"""The target of llama.cpp: one GGUF file with the model, its tokenizer and its chat template."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from gguf import GGUFReader, Metadata
from transformers import PreTrainedTokenizerBase
from yaml import YAMLError

from planner.targets.cut_layers import CutLayers
from planner.targets.gguf.gguf_families import family_of, refusal_of, varied_architecture
from planner.targets.gguf.gguf_file import GgufModel, type_of, write_file
from planner.targets.gguf.gguf_layers import Blocks, blocks_of, embedding_shape
from planner.targets.gguf.gguf_rounding import check_rounded
from planner.targets.gguf.gguf_runtime import LlamaCpp, llama_cpp, served
from planner.targets.gguf.gguf_types import WRITTEN_HERE, GgufType, as_type, row_block
from planner.targets.gguf.gguf_vocabulary import tokenizer_refusal, vocabulary_of
from planner.targets.hf.belongings import papers
from planner.targets.target import Written
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import VerificationError
from search_spaces.models.gguf import cache_folder
from search_spaces.models.loading import LoadedModel
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.holds import Holds
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

MODEL_FILE = "model.gguf"
TOLERANCE = 5e-3
"""llama.cpp takes GELU from a table of float16, 1e-3 over a few layers; all else is float32 in
another order, 1e-5."""
_CARD_FIELDS = {
    "license": "license",
    "license.name": "license_name",
    "license.link": "license_link",
    "base_model.0.name": "base_model",
}
"""Of the source's card, by keys of ``general``."""
_HUB = "https://huggingface.co/"
_LOADING = """\
In llama.cpp and what is built on it: `llama-cli -m {file}`, or in Python with `xllamacpp`:

```python
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = "{file}"
server = xllamacpp.Server(params)
answer = server.handle_completions({{"prompt": "Once upon a time", "max_tokens": 32}})
print(answer["choices"][0]["text"])
```

Its architecture there is `{architecture}`.
"""


class GgufTarget:
    """Writes GGUF files and runs them in llama.cpp.

    Args:
        file_type: Of its matrices, one of `GgufType`; empty: as the dense model stores them.

    Raises:
        SettingsError: If there is no such type.
    """

    name: TargetName = "gguf"
    runtime = "llama.cpp"
    tolerance = TOLERANCE
    modules = ("planner.targets.gguf.gguf_runtime", "cyllama.llama.llama_cpp")

    def __init__(self, file_type: str = "") -> None:
        self._type: GgufType | None = as_type(file_type) if file_type else None

    @property
    def choice(self) -> TargetChoice:
        options = {"file_type": str(self._type)} if self._type else {}
        return TargetChoice(name="gguf", options=options)

    @property
    def proof_variant(self) -> "GgufTarget":
        # of fewer bits llama.cpp rounds activations too, whatever the weights are
        return self if self._type == "F32" else GgufTarget("F32")

    @property
    def runtime_version(self) -> str:
        return f"of cyllama {version('cyllama')}"

    def check_installed(self) -> None:
        llama_cpp()

    def holds(
        self, structure: ModelStructure, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Holds:
        return _holds(structure, tokenizer)

    def write(
        self, folder: Path, cut: CutLayers, dense: LoadedModel, source: Path | None
    ) -> Written:
        structure = cut.structure
        model = GgufModel(
            structure=structure,
            blocks=blocks_of(structure, cut.layers),
            vocabulary=vocabulary_of(dense.tokenizer, embedding_shape(structure)[0]),
            about=_about(dense, source, cut.plan_id),
        )
        self._write_file(folder, model, dense)
        for path in [] if source is None else papers(source):
            shutil.copyfile(path, folder / path.name)
        return Written(
            loading=_LOADING.format(file=MODEL_FILE, architecture=model.blocks.architecture.name),
            notes=tuple(self._notes(model.blocks, self._written_type(dense))),
        )

    def dense_folder(self, scratch: Path, structure: ModelStructure, dense: LoadedModel) -> Path:
        blocks = blocks_of(structure, structure.backbone.layers)
        self._write_file(scratch, GgufModel(structure=structure, blocks=blocks), dense)
        return scratch

    def check_size(
        self,
        folder: Path,
        cut: CutLayers,
        promised: Mapping[str, float],
        stored: float,  # noqa: ARG002  (bytes depend on the type of numbers)
    ) -> None:
        blocks = blocks_of(cut.structure, cut.layers)
        tensors = GGUFReader(folder / MODEL_FILE).tensors
        count = sum(int(each.n_elements) for each in tensors if each.name != "rope_freqs.weight")
        if count - blocks.filler_params != promised["params"]:
            raise VerificationError(
                f"an export must cost what was promised, {promised['params']:.0f} parameters, got "
                f"{count - blocks.filler_params}; please report this model"
            )

    def check_variant(self, folder: Path, proved: Path) -> None:
        is_quantized = self._type is not None and self._type not in WRITTEN_HERE
        check_rounded(folder / MODEL_FILE, proved / MODEL_FILE, source_rounding=is_quantized)

    @contextmanager
    def serve(self, folder: Path, *, threads: int, exact: bool = False) -> Iterator[LlamaCpp]:
        with served(folder / MODEL_FILE, threads=threads, exact=exact) as model:
            yield model

    def _write_file(self, folder: Path, model: GgufModel, dense: LoadedModel) -> None:
        stored = type_of(dense.stored_dtype)
        kind = self._written_type(dense)
        write_file(folder / MODEL_FILE, model, kind, quantized_from=stored)

    def _written_type(self, dense: LoadedModel) -> GgufType:
        return self._type or type_of(dense.stored_dtype)

    def _notes(self, blocks: Blocks, kind: GgufType) -> Iterator[str]:
        """Yield what a reader should know besides."""
        if kind != "F32":
            yield (
                "Its logits were compared in F32, the form that llama.cpp computes without "
                f"rounding; each tensor of `{MODEL_FILE}` was compared with that of the F32 form, "
                f"and is it rounded to {kind} and nothing else."
            )
        if count := sum(1 for block in blocks.blocks if block.filler):
            yield (
                f"llama.cpp needs an attention or an MLP where {count} layers have none: one of "
                "zeros, of one head or 32 channels, stands there."
            )
        block = row_block(kind)
        lengths = blocks.row_lengths
        if odd := sum(1 for length in lengths if length % block):
            yield (
                f"{odd} of {len(lengths)} matrices have rows that {block} does not divide, so "
                f"that llama.cpp stores them in another type than {kind}."
            )


def _holds(structure: ModelStructure, tokenizer: PreTrainedTokenizerBase | None) -> Holds:
    """Return what llama.cpp's architectures hold of a model."""
    reason = refusal_of(structure)
    if not reason and tokenizer is not None:
        reason = tokenizer_refusal(tokenizer, embedding_shape(structure)[0])
    if reason:
        return Holds(refuses_model=reason)
    if varied_architecture(structure) is not None:
        return Holds()
    family = family_of(structure)
    assert family is not None, "a model of no family is refused above"
    own = family.own
    _, hidden = embedding_shape(structure)
    is_full = own.heads_fill_hidden

    def refuses(component: Component, units: int, _options: BlockOptions) -> str:
        if is_full and component.mixes_tokens and 0 < units < component.unit_count:
            return f"heads of `{own.name}` in llama.cpp must be {hidden} wide together"
        return ""

    return Holds(
        refuses=refuses,
        equal={
            "attention": frozenset({"units"}),
            "mlp": frozenset({"units"}),
            "experts": frozenset({"units", "channels", "top_k"}),
            "shared": frozenset({"units"}),
        },
        whole_layers=True,
    )


def _about(dense: LoadedModel, source: Path | None, plan_id: str) -> dict[str, str]:
    """Return what the file says of itself, by keys of ``general``.

    Args:
        dense: The model that it was cut from.
        source: The files of that model, with its card; None: they are not at hand.
        plan_id: Of the plan.
    """
    unpacked = cache_folder() in Path(dense.source).parents  # from a file whose name is lost
    name = dense.identity.architecture if unpacked else Path(dense.source).name
    about = {
        "type": "model",
        "name": f"{name}, pruned",
        "description": f"plan {plan_id} of {name}, cut by compression-planner",
    }
    try:
        card = Metadata.load_model_card(source)
    except (OSError, ValueError, YAMLError):  # no card that anyone could read
        card = {}
    if not Path(dense.source).exists():  # but on the hub
        card = {**card, "base_model": dense.source}
    for key, field in _CARD_FIELDS.items():
        value = card.get(field)
        first = next(iter(value), None) if isinstance(value, list) else value
        if isinstance(first, str):
            about[key] = first
    base = about.get("base_model.0.name", "")
    return {**about, "base_model.0.repo_url": f"{_HUB}{base}"} if base.count("/") == 1 else about
