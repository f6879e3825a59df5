"""The target of vLLM's own DeciLM: layers that differ, and a config instead of code of ours."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from transformers import PreTrainedTokenizerBase

from planner.targets.bundled_code import DECILM, copies_of_code_aside
from planner.targets.cut_layers import CutLayers
from planner.targets.deci.deci_config import deci_config
from planner.targets.hf.hf_target import TOLERANCE, HfTarget
from planner.targets.hf.layout import Part, arrange
from planner.targets.hf.loaded_folder import check_written
from planner.targets.hf.model_folder import (
    CutModel,
    as_stored,
    kept_sizes,
    named_weights,
    write_belongings,
)
from planner.targets.hf.published_config import VERSION_5_15, published
from planner.targets.hf.tokenizer_files import check_tokenizer
from planner.targets.hf.wiring import Wiring
from planner.targets.target import Served, Target, Written
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import TargetError
from search_spaces.models.fingerprint import lasting
from search_spaces.models.loading import LoadedModel
from search_spaces.models.own_exports import wiring_of
from search_spaces.models.stored import StoredFormat
from search_spaces.models.trust import load_config
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.holds import Holds
from search_spaces.space.number_format import NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

_FAMILIES = ("llama", "mistral", "qwen2")
"""Whose layers compute what DeciLM's do."""
_LOADING = """\
In vLLM, which runs this family itself: `vllm serve FOLDER --trust-remote-code`; the code that is
to be trusted is the config class of `modeling_decilm.py`, which compression-planner wrote.

In transformers, which has none of this family, by the model class of the same file:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)
```

Where compression-planner is installed, `import planner; planner.register(FOLDER)` takes the place
of `trust_remote_code=True`: it runs the file only if it is as it was written.
"""
_UNPROVED = (
    "It was proved and timed in transformers, with the class in `modeling_decilm.py`; vLLM, which "
    "has a class of its own for it, was not installed there."
)


class DeciTarget:
    """Writes folders for vLLM's DeciLM, and serves them there; in transformers without vLLM.

    Args:
        dtype: To serve in, unless exact.
    """

    name: TargetName = "deci"
    tolerance = TOLERANCE
    modules = ("planner.targets.deci.deci_target",)

    def __init__(self, dtype: str = "float32") -> None:
        self._dtype = dtype

    @property
    def runtime(self) -> str:
        return "vllm" if _has_vllm() else "torch"

    @property
    def choice(self) -> TargetChoice:
        return TargetChoice(name="deci", options={"dtype": self._dtype})

    @property
    def proof_variant(self) -> Target:
        return self

    @property
    def runtime_version(self) -> str:
        return f"vllm {_vllm_version()}" if _has_vllm() else HfTarget().runtime_version

    def check_installed(self) -> None:
        """Go on: without vLLM it is proved in transformers, and said so."""

    def holds(
        self,
        structure: ModelStructure,
        tokenizer: PreTrainedTokenizerBase | None = None,  # noqa: ARG002
    ) -> Holds:
        return Holds(
            refuses_model=_refusal(structure),
            refuses=_refuses,
            equal={"attention": frozenset({"units"})},
        )

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
        pruned = deci_model(cut)
        weights = as_stored(pruned, dense)
        save_torch_state_dict(weights, folder, metadata={"format": "pt"})
        config = published(pruned.config, list(weights))
        config["dtype"] = str(dense.stored_dtype).removeprefix("torch.")
        config["auto_map"] = dict(DECILM.classes)
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        (folder / DECILM.file).write_text(DECILM.of_family(dense.model), encoding="utf-8")
        tokenizer_needs_code = write_belongings(folder, dense, source)
        with copies_of_code_aside():
            read = load_config(str(folder), trust_remote_code=True)
        check_tokenizer(folder, read, dense.tokenizer)
        return Written(
            loading=_LOADING,
            requires=VERSION_5_15,
            needs_remote_code=True,
            tokenizer_needs_remote_code=tokenizer_needs_code,
            notes=() if _has_vllm() else (_UNPROVED,),
        )

    def check_size(
        self, folder: Path, cut: CutLayers, promised: Mapping[str, float], stored: float
    ) -> None:
        check_written(folder, deci_model(cut), promised, stored)

    def dense_folder(self, _scratch: Path, _structure: ModelStructure, dense: LoadedModel) -> Path:
        return Path(dense.source)

    def check_variant(self, folder: Path, proved: Path) -> None:
        """Do nothing: it is proved itself."""

    def serve(
        self, folder: Path, *, threads: int, exact: bool = False
    ) -> AbstractContextManager[Served]:
        if not _has_vllm():
            return HfTarget(dtype=self._dtype).serve(folder, threads=threads, exact=exact)
        from planner.targets.deci.vllm_runtime import serving  # noqa: PLC0415  (where it is)

        return serving(folder, threads=threads, dtype="float32" if exact else self._dtype)


def deci_model(cut: CutLayers) -> CutModel:
    """Name the weights of cut layers as DeciLM does, and describe its layers.

    Raises:
        TargetError: If the first layer that is kept has no attention, or layers have biases that
            the dense model lacks.
    """
    structure = cut.structure
    wiring = Wiring.of(structure)
    sizes = kept_sizes(cut, wiring)
    parts = [part for block in arrange(structure, wiring, sizes) for part in block]
    if not parts or parts[0].attention is None:
        raise TargetError(
            "a `deci` export must begin with a layer that keeps its attention, as vLLM asks for, "
            "and here the first layer that is kept has none; choose `--format hf`, or another plan"
        )
    _check_biases(cut, parts)
    weights, dense_names = named_weights(structure, cut.layers, [[part] for part in parts], "")
    return CutModel(
        weights=weights,
        dense_names=dense_names,
        config=deci_config(wiring, sizes, parts, _layer_names(structure)),
        model_class=wiring.model_class,
    )


def _check_biases(cut: CutLayers, parts: Sequence[Part]) -> None:
    """Refuse biases that compensation adds: DeciLM has them in all layers or none."""
    dense = _layer_names(cut.structure)
    for layer in (layer for part in parts for layer in part.layers):
        if added := set(lasting(cut.layers[layer])) - dense:
            raise TargetError(
                "a `deci` export must have the biases of the dense model alone, and compensation "
                f"adds `{min(added)}` to layer {layer}; choose `--format hf`, or search with "
                "another `--compensate`"
            )


def _layer_names(structure: ModelStructure) -> frozenset[str]:
    """Return the names of the dense model's tensors inside their layers."""
    return frozenset(name for layer in structure.backbone.layers for name in lasting(layer))


def _refusal(structure: ModelStructure) -> str:
    """Return why a model cannot be written at all; empty: it can."""
    config: Any = structure.backbone.model.config
    if config.model_type not in _FAMILIES or wiring_of(config) is not None:
        families = ", ".join(_FAMILIES)
        return f"DeciLM's layers are those of {families}, and not {config.model_type}'s"

    if config.hidden_act != "silu":
        return f"DeciLM's MLPs compute silu, and not {config.hidden_act}"
    if getattr(config, "sliding_window", None):
        return "DeciLM's attention sees all tokens, and this model's a window of them"
    return ""


def _refuses(component: Component, units: int, _options: BlockOptions) -> str:
    if component.kind == "attention" and component.layer == 0 and not units:
        return "vLLM's DeciLM needs the attention of its first layer"
    return ""


def _has_vllm() -> bool:
    return find_spec("vllm") is not None


def _vllm_version() -> str:
    from vllm import __version__  # noqa: PLC0415

    return str(__version__)
