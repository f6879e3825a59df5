"""Exporting to HuggingFace: cut, write, load as a client does, time, and check what is on disk."""

import atexit
import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel, dynamic_module_utils

from evaluators.latency.measure import Latency, Workload, measure_latencies
from planner.targets.hf.config import CODE_FILE
from planner.targets.hf.model_folder import Written, cut_model, write_model
from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import VerificationError
from search_spaces.models.loading import LoadedModel
from search_spaces.models.trust import load_as_client
from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure


class HuggingFaceExporter:
    """Exports one plan of a dense model as a folder that `transformers` loads.

    Args:
        dense: The model.
        structure: Of it, its units in their own order.
        plan: What to keep of it.
        weights: For each component its units by falling importance, and its pruned weights if
            they are no slices of the model sorted so; empty: all are slices.
    """

    def __init__(
        self,
        dense: LoadedModel,
        structure: ModelStructure,
        plan: Plan,
        weights: Sequence[OrderedWeights] = (),
    ) -> None:
        self._dense = dense
        self.pruned = cut_model(structure, plan, weights)

    @property
    def weight_bytes(self) -> int:
        """What the weights will take of the disk."""
        stored, names = self._dense.stored, self.pruned.dense_names
        return sum(
            weight.numel() * stored.of(names[name], weight).itemsize
            for name, weight in self.pruned.weights.items()
        )

    def write(self, folder: Path, source: Path | None) -> Written:
        """Write the model into a new folder, with what belongs to it of its source's files."""
        folder.mkdir()
        return write_model(folder, self.pruned, self._dense, source)

    def time(
        self,
        exported: PreTrainedModel,
        workload: Workload,
        placement: tuple[str, torch.dtype] | None = None,
    ) -> dict[str, Latency]:
        """Measure the dense and the pruned model end to end, in turns.

        Args:
            exported: The pruned model, as `load_export` returns it.
            workload: The request to measure.
            placement: Device and dtype to move both to first, for good; None: they stay.

        Returns:
            ``dense`` and ``pruned``.
        """
        model = self._dense.model
        # a stock class would run experts in another way than the dense model does here
        exported.set_experts_implementation(model.config._experts_implementation)
        models: dict[str, Any] = {"dense": model, "pruned": exported}
        if placement is not None:
            device, dtype = placement
            for each in models.values():
                each.to(device=device, dtype=dtype)
        return measure_latencies(models, workload)

    def check_costs(
        self, costs: Mapping[str, float], written: Mapping[str, float], folder: Path
    ) -> None:
        """Compare predicted costs with the tensors that were written.

        Args:
            costs: Of the plan.
            written: Of the dense tensors that stand for it.
            folder: In which they were written.

        Raises:
            VerificationError: If the cost model and the files disagree.
        """
        param_count = sum(weight.numel() for weight in self.pruned.params)
        byte_count = tensor_bytes(folder)
        if (written["params"], written["size"]) != (param_count, byte_count):
            raise VerificationError(
                f"an export must cost what was promised, {written['params']:.0f} parameters and "
                f"{written['size']:.0f} bytes, got {param_count} and {byte_count}; please report "
                "this model"
            )
        nonzero = sum(int(weight.count_nonzero()) for weight in self.pruned.params)
        if nonzero > costs["nonzero"]:
            raise VerificationError(
                f"an export must hold at most the {costs['nonzero']:.0f} non-zero weights that "
                f"were promised, got {nonzero}; please report this model"
            )


def load_export(folder: Path) -> PreTrainedModel:
    """Load an exported folder as a client would, in float32, and insist on every weight.

    Only code that we bundled with it may run: of a stock export, none.

    Raises:
        VerificationError: If weights are missing, left over or misshapen.
    """
    with _copies_of_code_aside():
        model, info = load_as_client(
            str(folder),
            trust_remote_code=(folder / f"{CODE_FILE}.py").is_file(),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # reported below with the others
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            raise VerificationError(
                f"an export must hold exactly the weights of its model, got {kind} "
                f"{sorted(map(str, info[kind]))[:3]}; please report this model"
            )
    model.train(mode=False)
    return model


@contextmanager
def _copies_of_code_aside() -> Iterator[None]:
    """Let transformers copy our code to a folder of this process, and not to the user's home."""
    settings: Any = dynamic_module_utils
    place, modules = settings.HF_MODULES_CACHE, _folder_of_code()
    settings.HF_MODULES_CACHE = modules
    try:
        yield
    finally:
        settings.HF_MODULES_CACHE = place
        if modules in sys.path:
            sys.path.remove(modules)


@functools.cache
def _folder_of_code() -> str:
    """Make a folder that is there as long as the process is, for classes look into their files."""
    made = ExitStack()
    atexit.register(made.close)
    scratch = scratch_beside(Path(tempfile.gettempdir(), "planner-modules"))
    return str(made.enter_context(scratch))


def tensor_bytes(folder: Path) -> int:
    """Return the bytes of all tensors in the safetensors files of a folder, without headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:  # tensors are mapped, not read
            total += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    return total
