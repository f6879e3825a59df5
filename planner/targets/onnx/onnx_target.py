"""The target of onnxruntime: a graph with its cache, and what onnxruntime-genai reads beside."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.cache_utils import DynamicCache, DynamicLayer

from planner.targets.cut_layers import CutLayers
from planner.targets.hf.belongings import papers
from planner.targets.hf.tokenizer_files import check_tokenizer, write_tokenizer
from planner.targets.onnx.genai_files import write_genai_config
from planner.targets.onnx.onnx_runtime import OnnxRuntime, onnxruntime
from planner.targets.onnx.placed_layer import placed
from planner.targets.target import Written
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import MissingExtraError, VerificationError
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import DENSE_EXPERTS
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.number_format import NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

if TYPE_CHECKING:  # it takes packages that only some users have
    from planner.targets.onnx.onnx_graph import GraphWriter

TOLERANCE = 1e-3
"""Float32 sums in another order, nothing more."""
_WRITERS = {"onnx": "onnx", "onnx_ir": "onnx-ir", "onnxscript": "onnxscript"}
"""Modules that writing takes, with their packages."""
_LOADING = """\
In onnxruntime-genai, which takes the tokenizer from the folder too:

```python
import onnxruntime_genai

model = onnxruntime_genai.Model(FOLDER)
tokenizer = onnxruntime_genai.Tokenizer(model)
params = onnxruntime_genai.GeneratorParams(model)
params.set_search_options(max_length=64)
generator = onnxruntime_genai.Generator(model, params)
generator.append_tokens(tokenizer.encode("Once upon a time"))
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
```

In onnxruntime alone and in OpenVINO, `model.onnx` takes `input_ids`, `attention_mask`, mostly
`position_ids`, and `past_key_values.i.key` and `.value` of the layers that have an attention.
"""


class OnnxTarget:
    """Writes ONNX with a key–value cache, in float32, and runs it in onnxruntime."""

    name: TargetName = "onnx"
    runtime = "onnxruntime"
    tolerance = TOLERANCE
    modules = ("planner.targets.onnx.onnx_runtime", "onnxruntime")
    choice = TargetChoice(name="onnx")

    def __init__(self) -> None:
        self._writer: tuple[ModelStructure, GraphWriter] | None = None

    @property
    def proof_variant(self) -> "OnnxTarget":
        return self

    @property
    def runtime_version(self) -> str:
        return version("onnxruntime")

    def check_installed(self) -> None:
        onnxruntime()
        for module, package in _WRITERS.items():
            if find_spec(module) is None:
                raise MissingExtraError(package, "onnx", "`--format onnx`")

    def holds(
        self,
        structure: ModelStructure,
        tokenizer: PreTrainedTokenizerBase | None = None,  # noqa: ARG002
    ) -> Holds:
        if reason := _refusal(structure):
            return Holds(refuses_model=reason)
        return HOLDS_ALL

    def stored(self, structure: ModelStructure, stored: StoredFormat) -> StoredFormat:  # noqa: ARG002
        return stored

    def keeps(
        self,
        structure: ModelStructure,  # noqa: ARG002
        component: Component,  # noqa: ARG002
        number_format: NumberFormat,  # noqa: ARG002
    ) -> bool:
        return False

    def write(
        self, folder: Path, cut: CutLayers, dense: LoadedModel, source: Path | None
    ) -> Written:
        self._write_graph(folder, cut)
        needs_code = write_tokenizer(folder, dense.tokenizer)
        check_tokenizer(folder, dense.model.config, dense.tokenizer)
        for path in [] if source is None else papers(source):
            shutil.copyfile(path, folder / path.name)
        return Written(
            loading=_LOADING,
            tokenizer_needs_remote_code=needs_code,
        )

    def dense_folder(self, scratch: Path, structure: ModelStructure, _dense: LoadedModel) -> Path:
        components = structure.components
        whole = CutLayers(
            structure=structure,
            layers=structure.backbone.layers,
            kept=tuple(np.arange(component.member_count) for component in components),
            insides=(DENSE_EXPERTS,) * len(components),
        )
        self._write_graph(scratch, whole)
        return scratch

    def check_size(
        self,
        folder: Path,
        cut: CutLayers,
        promised: Mapping[str, float],
        stored: float,  # noqa: ARG002  (it is written in float32, whatever the source is in)
    ) -> None:
        from planner.targets.onnx.onnx_graph import number_count

        model = cut.structure.backbone.model
        shared = model.named_parameters(remove_duplicate=False)  # the graph has one of the names
        names = {f"model.model.{name}" for name, _ in shared}
        for index, layer in enumerate(placed(cut)):
            names |= {f"layers.{index}.{name}" for name, _ in layer.module.named_parameters()}
        count = number_count(folder, names)
        if count != promised["params"]:
            raise VerificationError(
                f"an export must cost what was promised, {promised['params']:.0f} parameters, got "
                f"{count}; please report this model"
            )

    def check_variant(self, folder: Path, proved: Path) -> None:
        """Do nothing: it is proved itself."""

    @contextmanager
    def serve(self, folder: Path, *, threads: int, exact: bool = False) -> Iterator[OnnxRuntime]:  # noqa: ARG002
        yield OnnxRuntime(folder, threads=threads)

    def _write_graph(self, folder: Path, cut: CutLayers) -> None:
        """Write the graph, with what was traced for others of the same model."""
        from planner.targets.onnx.onnx_graph import GraphWriter

        if self._writer is None or self._writer[0] is not cut.structure:
            self._writer = cut.structure, GraphWriter(cut.structure)
        layers, writer = placed(cut), self._writer[1]
        writer.write(folder, layers)
        caches = [cache for layer in layers if (cache := writer.cache(layer))]
        if caches:  # stacks of layers that are only timed may have none
            write_genai_config(folder, cut.structure.backbone.model, len(layers), caches)


def _refusal(structure: ModelStructure) -> str:
    """Return why a model's cache or layers cannot be written; empty: they can."""
    if structure.has_experts:
        return "which experts run is not known when a graph is written"
    config = structure.backbone.model.config.get_text_config()
    layers = DynamicCache(config=config).layers
    odd = {type(layer).__name__ for layer in layers if not isinstance(layer, DynamicLayer)}
    return f"its cache holds more than keys and values ({min(odd)})" if odd else ""
