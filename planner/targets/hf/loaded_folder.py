"""Loading what was written for `transformers` as a client does, and checking what is on disk."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from planner.targets.bundled_code import copies_of_code_aside, runs_own_code_alone
from planner.targets.hf.model_folder import CutModel
from search_spaces.errors import VerificationError
from search_spaces.models.trust import load_as_client, load_config


def check_written(
    folder: Path, pruned: CutModel, promised: Mapping[str, float], stored: float
) -> None:
    """Compare predicted costs with the tensors that were written.

    Args:
        folder: In which they were written.
        pruned: What was written.
        promised: Costs of the plan, ``params`` and ``nonzero`` among them.
        stored: Bytes of the dense tensors that stand for it.

    Raises:
        VerificationError: If the cost model and the files disagree.
    """
    param_count = sum(weight.numel() for weight in pruned.params)
    byte_count = tensor_bytes(folder)
    if (promised["params"], stored) != (param_count, byte_count):
        raise VerificationError(
            f"an export must cost what was promised, {promised['params']:.0f} parameters and "
            f"{stored:.0f} bytes, got {param_count} and {byte_count}; please report this model"
        )
    nonzero = sum(int(weight.count_nonzero()) for weight in pruned.params)
    if nonzero > promised["nonzero"]:
        raise VerificationError(
            f"an export must hold at most the {promised['nonzero']:.0f} non-zero weights that "
            f"were promised, got {nonzero}; please report this model"
        )


def load_export(folder: Path) -> PreTrainedModel:
    """Load an exported folder as a client would, in float32, and insist on every weight.

    Only code that we bundled with it may run: of a stock export, none.

    Raises:
        VerificationError: If weights are missing, left over or misshapen.
    """
    return load_folder(folder, dtype=torch.float32)


def load_folder(
    folder: Path,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    with_leftovers: bool = False,
) -> PreTrainedModel:
    """Load a model as a client would, and insist on every weight.

    Args:
        folder: Of an export, or of a dense model.
        dtype: To compute in.
        trust_remote_code: Run other code than ours, which runs in any case, if the family is none
            that transformers holds itself.
        with_leftovers: Accept weights that the model does not use, as dense ones may have them.

    Raises:
        VerificationError: If weights are missing, left over or misshapen.
    """
    is_ours = runs_own_code_alone(folder)
    with copies_of_code_aside():
        model, info = load_as_client(
            str(folder),
            trust_remote_code=is_ours or (trust_remote_code and _runs_its_own_code(folder)),
            dtype=dtype,
            experts_implementation="eager",  # as they are searched, and of any width
            ignore_mismatched_sizes=True,  # reported below with the others
        )
    leftovers = () if with_leftovers else ("unexpected_keys",)
    for kind in ("missing_keys", "mismatched_keys", *leftovers):
        if info[kind]:
            raise VerificationError(
                f"an export must hold exactly the weights of its model, got {kind} "
                f"{sorted(map(str, info[kind]))[:3]}; please report this model"
            )
    model.train(mode=False)
    return model


def _runs_its_own_code(folder: Path) -> bool:
    return hasattr(load_config(str(folder), trust_remote_code=True), "auto_map")


def tensor_bytes(folder: Path) -> int:
    """Return the bytes of all tensors in the safetensors files of a folder, without headers."""
    return sum(tensor.nbytes for _, tensor in stored_tensors(folder))


def stored_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in the safetensors files of a folder, mapped and not read, by its name."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)
