"""The target of `transformers`: a folder that its classes load, with our code where none fits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evaluators.latency.measure import time_request
from evaluators.latency.workload import Latency, Workload
from planner.targets.bundled_code import copies_of_code_aside
from planner.targets.cut_layers import CutLayers
from planner.targets.hf.loaded_folder import check_written, load_folder
from planner.targets.hf.loading_text import loading_text
from planner.targets.hf.model_folder import CutModel, assembled, write_model
from planner.targets.hf.pack_quantized import packs
from planner.targets.hf.tokenizer_files import check_tokenizer
from planner.targets.target import Target, Written
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.models.trust import load_config
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.number_format import NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.path_checks import logits_with_cache

TOLERANCE = 1e-3
"""Float32 sums in another order, nothing more."""


class HfTarget:
    """Writes and serves folders for `transformers`.

    Args:
        dtype: To serve in, unless exact.
        device: To serve on, unless exact.
        trust_remote_code: ``true``: the dense model may bring code of its own.
    """

    name: TargetName = "hf"
    runtime = "torch"
    tolerance = TOLERANCE
    modules = ("planner.targets.hf.hf_target",)

    def __init__(
        self, dtype: str = "float32", device: str = "cpu", trust_remote_code: str = ""
    ) -> None:
        self._options = {"dtype": dtype, "device": device}
        if trust_remote_code:
            self._options["trust_remote_code"] = trust_remote_code

    @property
    def choice(self) -> TargetChoice:
        return TargetChoice(name="hf", options=self._options)

    @property
    def proof_variant(self) -> Target:
        return self

    @property
    def runtime_version(self) -> str:
        return f"{torch.__version__} with transformers {version('transformers')}"

    def check_installed(self) -> None:
        """Go on: both are dependencies."""

    def holds(
        self,
        structure: ModelStructure,  # noqa: ARG002
        tokenizer: PreTrainedTokenizerBase | None = None,  # noqa: ARG002
    ) -> Holds:
        return HOLDS_ALL

    def stored(self, structure: ModelStructure, stored: StoredFormat) -> StoredFormat:  # noqa: ARG002
        return stored

    def keeps(
        self, structure: ModelStructure, component: Component, number_format: NumberFormat
    ) -> bool:
        return packs(structure, component, number_format)

    def write(
        self, folder: Path, cut: CutLayers, dense: LoadedModel, source: Path | None
    ) -> Written:
        return write_assembled(folder, assembled(cut), dense, source)

    def check_size(
        self, folder: Path, cut: CutLayers, promised: Mapping[str, float], stored: float
    ) -> None:
        check_written(folder, assembled(cut), promised, stored)

    def dense_folder(self, _scratch: Path, _structure: ModelStructure, dense: LoadedModel) -> Path:
        return Path(dense.source)

    def check_variant(self, folder: Path, proved: Path) -> None:
        """Do nothing: it is proved itself."""

    @contextmanager
    def serve(self, folder: Path, *, threads: int, exact: bool = False) -> Iterator["HfServed"]:
        torch.set_num_threads(threads)
        dtype = torch.float32 if exact else getattr(torch, self._options["dtype"])
        trusted = bool(self._options.get("trust_remote_code"))
        model: Any = load_folder(
            folder, dtype=dtype, trust_remote_code=trusted, with_leftovers=not exact
        )
        yield HfServed(model.to("cpu" if exact else self._options["device"]))


def write_assembled(
    folder: Path, pruned: CutModel, dense: LoadedModel, source: Path | None
) -> Written:
    """Write a model as `transformers` has it; see `Target.write`."""
    told = write_model(folder, pruned, dense, source)
    with copies_of_code_aside():
        config = load_config(str(folder), trust_remote_code=not pruned.is_stock)
    check_tokenizer(folder, config, dense.tokenizer)
    return Written(
        loading=loading_text(
            model_needs_code=not pruned.is_stock,
            tokenizer_needs_code=told.tokenizer_needs_remote_code,
            requires=told.requires,
            is_packed=bool(pruned.packed),
            refused_by_vllm=pruned.refused_by_vllm,
        ),
        requires=told.requires,
        needs_remote_code=not pruned.is_stock,
        tokenizer_needs_remote_code=told.tokenizer_needs_remote_code,
        experts=pruned.experts,
    )


class HfServed:
    """A model as `transformers` has loaded it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        return _numbers(self._model(self._ids(tokens), use_cache=False).logits)

    @torch.inference_mode()
    def stepped_logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        return _numbers(logits_with_cache(self._model, self._ids(tokens)))

    @torch.inference_mode()
    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        ids = self._ids(np.array([prompt]))
        written: list[int] = []
        cache = None
        for _ in range(count):
            output = self._model(ids, past_key_values=cache, use_cache=True)
            cache, ids = output.past_key_values, output.logits[:, -1:].argmax(dim=-1)
            written.append(int(ids))
        return written

    def time(self, workload: Workload) -> Latency:
        return time_request(self._model, workload)

    def _ids(self, tokens: NDArray[np.int_]) -> torch.Tensor:
        return torch.from_numpy(tokens).to(self._model.device)


def _numbers(logits: torch.Tensor) -> NDArray[np.float32]:
    return logits.float().cpu().numpy()
