"""Recovered weights on disk: of each changed layer a file, and what the recovery came to."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from planner.recovery.recovery_record import RecoveryRecord
from planner.runs.folder import (
    FRONT,
    RECOVERY_FILE,
    delete,
    layer_file,
    recovered_folder,
    sort_out,
)
from planner.runs.records import Recovery, variant_name
from search_spaces.atomic_files import publish, scratch_beside, writing
from search_spaces.errors import RunError
from search_spaces.models.fingerprint import lasting
from search_spaces.models.loading import LoadedModel
from search_spaces.models.tensor_files import writing_tensors
from search_spaces.models.tensors import digest_of_tensors


@dataclass(frozen=True, kw_only=True)
class RecoveredWeights:
    """The tensors of a cut model that a recovery changed, in a folder."""

    folder: Path
    record: RecoveryRecord

    @classmethod
    def open(cls, run: Path, plan_id: str, recovery: Recovery) -> Self:
        """Open the recovered weights of a plan, in the folder of its run.

        Raises:
            RunError: If there are none, or they are damaged.
        """
        folder = recovered_folder(run, plan_id, recovery)
        name = variant_name(plan_id, recovery)
        try:
            text = (folder / RECOVERY_FILE).read_text(encoding="utf-8")
            record = RecoveryRecord.model_validate_json(text)
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(
                f"`{folder}` must hold the weights of {name}, got none that can be read; make "
                f"them again by `{command_of(plan_id, recovery)}`"
            ) from error
        except ValidationError as error:
            raise _damaged(folder, RECOVERY_FILE) from error
        if (record.plan_id, record.recovery) != (plan_id, recovery):
            raise _damaged(folder, RECOVERY_FILE)
        return cls(folder=folder, record=record)

    def of_layer(self, index: int) -> Mapping[str, Tensor]:
        """Return the changed tensors of a layer, by their paths inside it; empty: it is as it was.

        Raises:
            RunError: If they are others than were written.
        """
        if index not in self.record.layers:
            return {}
        file = layer_file(index)
        try:
            tensors: Mapping[str, Tensor] = load_file(self.folder / file)
        except (OSError, SafetensorError) as error:
            raise _damaged(self.folder, file) from error
        if digest_of_tensors(tensors) != self.record.layers[index]:
            raise _damaged(self.folder, file)
        return tensors


class StagedWeights:
    """Recovered weights while they are made, layer by layer, in a folder that has no name yet.

    Args:
        folder: Where they are written.
        out: What the folder is to be called.
        loaded: The dense model, in whose formats they are stored.
    """

    def __init__(self, folder: Path, out: Path, loaded: LoadedModel) -> None:
        self._folder = folder
        self._out = out
        self._loaded = loaded
        self._layers: dict[int, str] = {}

    def add(self, index: int, path: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the changed tensors of a layer, rounded as an export of the model stores them.

        Args:
            index: Number of the layer.
            path: Of the layer in the model.
            tensors: By their paths inside it; none for a layer that stays as it was.
        """
        if not tensors:
            return
        stored = {
            name: tensor.detach().to("cpu", self._format(f"{path}.{name}", tensor)).contiguous()
            for name, tensor in tensors.items()
        }
        with writing_tensors(self._out):
            save_file(stored, self._folder / layer_file(index))
        self._layers[index] = digest_of_tensors(stored)

    def _format(self, name: str, tensor: Tensor) -> torch.dtype:
        return self._loaded.stored.of(name, nn.Parameter(tensor.detach(), requires_grad=False))

    def completed(self, record: RecoveryRecord) -> RecoveredWeights:
        """Add what the recovery came to, and return the weights as they can be read here."""
        record = record.model_copy(update={"layers": dict(sorted(self._layers.items()))})
        text = record.model_dump_json(indent=1) + "\n"
        with writing(self._folder):
            (self._folder / RECOVERY_FILE).write_text(text, encoding="utf-8")
        return RecoveredWeights(folder=self._folder, record=record)

    def publish(self) -> None:
        """Give the completed folder its name, in the place of earlier weights."""
        with writing(self._out):
            discard_weights(self._out)
            publish(self._folder, self._out)


@contextmanager
def staged_weights(
    run: Path, plan_id: str, recovery: Recovery, loaded: LoadedModel
) -> Iterator[StagedWeights]:
    """Provide a place for weights to be made in; it vanishes unless they are published.

    Args:
        run: The run's folder.
        plan_id: Of the plan.
        recovery: How its weights are recovered.
        loaded: The dense model.

    Raises:
        OutputError: If the folder cannot be written to.
    """
    out = recovered_folder(run, plan_id, recovery)
    with scratch_beside(out) as scratch:
        folder = scratch / out.name
        with writing(folder):
            folder.mkdir()
        yield StagedWeights(folder, out, loaded)


def discard_weights(folder: Path) -> None:
    """Delete the recovered weights in a folder, and nothing else there."""
    run = folder.parent.parent
    delete(path for path in sort_out(run)[0] if folder in (path, *path.parents))


def place_(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a cut layer recovered weights in the place of its own, in its dtype.

    Raises:
        RunError: If the layer has none of that name and shape.
    """
    own = lasting(layer)
    for path, tensor in tensors.items():
        if path not in own or own[path].shape != tensor.shape:
            raise RunError(
                f"recovered weights must be of the layers that their plan keeps, and `{path}` is "
                "not; recover the plan again"
            )
        own[path].copy_(tensor)


def changed_tensors(layer: nn.Module, before: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a layer that differ from those of another, by their paths."""
    old = lasting(before)
    return {
        path: tensor.detach()
        for path, tensor in lasting(layer).items()
        if not torch.equal(tensor, old[path].to(tensor))
    }


def command_of(plan_id: str, recovery: Recovery) -> str:
    """Return the command that makes the recovered weights of a plan, in a folder RUN."""
    if recovery != "heal":
        return f"planner recover RUN --plan {plan_id} --recover {recovery}"
    return f"planner heal RUN {'--front' if plan_id == FRONT else f'--plan {plan_id}'}"


def _damaged(folder: Path, file: str) -> RunError:
    return RunError(
        f"`{folder / file}` must hold what a recovery wrote, and it is damaged; recover or "
        "heal the plan again"
    )
