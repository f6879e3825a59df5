"""The target of llama.cpp: one GGUF file with the model, its tokenizer and its chat template."""

import shlex
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from gguf import GGUFReader
from transformers import PreTrainedTokenizerBase

from planner.targets.cut_layers import CutLayers
from planner.targets.gguf.gguf_about import about
from planner.targets.gguf.gguf_families import family_of, refusal_of, varied_architecture
from planner.targets.gguf.gguf_file import DTYPES, GgufModel, float32_names, type_of, write_file
from planner.targets.gguf.gguf_layers import Blocks, blocks_of, embedding_shape, head_dim_of
from planner.targets.gguf.gguf_rounding import check_rounded
from planner.targets.gguf.gguf_runtime import LlamaCpp, llama_cpp, served
from planner.targets.gguf.gguf_types import WRITTEN_HERE, GgufType, as_type, row_block
from planner.targets.gguf.gguf_vocabulary import tokenizer_refusal, vocabulary_of
from planner.targets.gguf.llama_quantize import TYPES_FILE, line, makes_it_again, write_types
from planner.targets.hf.belongings import papers
from planner.targets.target import Written
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import VerificationError
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.holds import Holds
from search_spaces.space.number_format import CACHE_FORMATS, FORMATS, INTEGERS, NumberFormat
from search_spaces.structure.components import Component, ComponentKind
from search_spaces.structure.model import ModelStructure

MODEL_FILE = "model.gguf"
TOLERANCE = 5e-3
"""llama.cpp takes GELU from a table of float16, 1e-3 over a few layers; all else is float32 in
another order, 1e-5."""
_LOADING = """\
In llama.cpp and what is built on it: `{run}`, or in Python with `xllamacpp`:

```python
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = "{file}"
server = xllamacpp.Server(params)
answer = server.handle_completions({{"prompt": "Once upon a time", "max_tokens": 32}})
print(answer["choices"][0]["text"])
```

Its architecture there is `{architecture}`.{cache}
"""
_CACHE = """ It was searched with keys and values in fewer bits, which
take `--cache-type-k {cache} --cache-type-v {cache} --flash-attn on`."""
STORES = tuple(each for each in FORMATS.values() if each not in INTEGERS)
"""Number formats of llama.cpp among those that a plan may choose."""


def run_line(file: str | Path) -> str:
    """Return the line to type to run a file in llama.cpp."""
    return f"llama-cli -m {shlex.quote(str(file))}"


class GgufTarget:
    """Writes GGUF files and runs them in llama.cpp.

    Args:
        file_type: Of its matrices, one of `GgufType`; empty: as the plan chooses, or as the dense
            model stores them.
        cache_type: In which it is served with keys and values.

    Raises:
        SettingsError: If there is no such type.
    """

    name: TargetName = "gguf"
    runtime = "llama.cpp"
    tolerance = TOLERANCE
    modules = ("planner.targets.gguf.gguf_runtime", "cyllama.llama.llama_cpp")

    def __init__(self, file_type: str = "", cache_type: str = "F16") -> None:
        self._type: GgufType | None = as_type(file_type) if file_type else None
        self._cache_type = cache_type

    @property
    def choice(self) -> TargetChoice:
        options = {"file_type": str(self._type)} if self._type else {}
        if self._cache_type != "F16":
            options["cache_type"] = self._cache_type
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

    def stored(self, structure: ModelStructure, stored: StoredFormat) -> StoredFormat:
        dtype = DTYPES[type_of(stored.dtype)]
        apart = dict.fromkeys(float32_names(structure), torch.float32)
        return StoredFormat(dtype=dtype, apart=apart, added_bias=torch.float32)

    def keeps(
        self,
        structure: ModelStructure,  # noqa: ARG002
        component: Component,  # noqa: ARG002
        number_format: NumberFormat,
    ) -> bool:
        return number_format in STORES

    def write(
        self, folder: Path, cut: CutLayers, dense: LoadedModel, source: Path | None
    ) -> Written:
        structure = cut.structure
        model = GgufModel(
            structure=structure,
            # of one type for all, what the bytes stand for, as the layers hold it
            blocks=blocks_of(structure, cut.layers, () if self._type else cut.quantized),
            vocabulary=vocabulary_of(dense.tokenizer, embedding_shape(structure)[0]),
            about=about(dense, source, cut.plan_id),
            quantized={} if self._type else cut.quantized_ends,
        )
        self._write_file(folder, model, dense)
        for path in [] if source is None else papers(source):
            shutil.copyfile(path, folder / path.name)
        loading = _LOADING.format(
            run=run_line(MODEL_FILE),
            file=MODEL_FILE,
            architecture=model.blocks.architecture.name,
            cache=_CACHE.format(cache=self._cache_type.lower())
            if self._cache_type != "F16"
            else "",
        )
        if self._type is None and makes_it_again(cut, model.blocks):
            write_types(folder / TYPES_FILE, folder / MODEL_FILE)
            loading += line(cut, MODEL_FILE, self._written_type(dense))
        return Written(loading=loading, notes=tuple(self._notes(cut, model.blocks, dense)))

    def dense_folder(self, scratch: Path, structure: ModelStructure, dense: LoadedModel) -> Path:
        blocks = blocks_of(structure, structure.backbone.layers)
        self._write_file(scratch, GgufModel(structure=structure, blocks=blocks), dense)
        return scratch

    def check_size(
        self,
        folder: Path,
        cut: CutLayers,
        promised: Mapping[str, float],
        stored: float,
    ) -> None:
        blocks = blocks_of(cut.structure, cut.layers)
        added = blocks.filler | {"rope_freqs.weight"}  # which the planner counts nowhere
        tensors = [
            each for each in GGUFReader(folder / MODEL_FILE).tensors if each.name not in added
        ]
        param_count = sum(int(each.n_elements) for each in tensors)
        byte_count = sum(int(each.n_bytes) for each in tensors)
        expected = stored if self._type is None else byte_count
        if (promised["params"], expected) != (param_count, byte_count):
            raise VerificationError(
                f"an export must cost what was promised, {promised['params']:.0f} parameters and "
                f"{expected:.0f} bytes, got {param_count} and {byte_count}; please report this "
                "model"
            )

    def check_variant(self, folder: Path, proved: Path) -> None:
        check_rounded(
            folder / MODEL_FILE,
            proved / MODEL_FILE,
            source_rounding=self._type is not None and self._type not in WRITTEN_HERE,
            as_chosen=self._type is None,
        )

    @contextmanager
    def serve(self, folder: Path, *, threads: int, exact: bool = False) -> Iterator[LlamaCpp]:
        cache_type = "F32" if exact else self._cache_type
        with served(folder / MODEL_FILE, threads=threads, cache_type=cache_type) as model:
            yield model

    def _write_file(self, folder: Path, model: GgufModel, dense: LoadedModel) -> None:
        stored = type_of(dense.stored_dtype)
        kind = self._written_type(dense)
        write_file(folder / MODEL_FILE, model, kind, quantized_from=stored)

    def _written_type(self, dense: LoadedModel) -> GgufType:
        return self._type or type_of(dense.stored_dtype)

    def _notes(self, cut: CutLayers, blocks: Blocks, dense: LoadedModel) -> Iterator[str]:
        """Yield what a reader should know besides."""
        kind = self._written_type(dense)
        in_formats = cut.in_formats if self._type is None else {}
        if kind != "F32" or in_formats:
            is_it = f"is it rounded to {kind} and nothing else"
            if in_formats:
                is_it = "holds the very numbers that were scored"
            yield (
                "Its logits were compared in F32, the form that llama.cpp computes without "
                f"rounding; each tensor of `{MODEL_FILE}` was compared with that of the F32 form, "
                f"and {is_it}."
            )
        if in_formats:
            counts = Counter(matrix.format.name for matrix in in_formats.values())
            told = ", ".join(f"{count} in {name}" for name, count in counts.most_common())
            yield f"Of its matrices the plan has {told}; all others are in {kind}."
        if count := sum(1 for block in blocks.blocks if block.filler):
            yield (
                f"llama.cpp needs an attention or an MLP where {count} layers have none: one of "
                "zeros, of one head or 32 channels, stands there."
            )
        if self._type is None:
            return
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
    head_dim = head_dim_of(structure)
    caches = tuple(each for each in CACHE_FORMATS.values() if each.fits(head_dim))
    if (varied := varied_architecture(structure)) is not None:
        fuses: frozenset[ComponentKind] = frozenset(
            {"attention"} if varied.fuses_attention else ()
        )
        return Holds(fuses=fuses, stores=STORES, caches=caches)
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
        stores=STORES,
        caches=caches,
    )
