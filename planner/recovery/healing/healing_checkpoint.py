"""The state of a training on disk, written whole: killed at any moment, it goes on from there."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from planner.recovery.healing.curve import LearningCurve
from search_spaces.atomic_files import discard, replacing
from search_spaces.models.tensor_files import writing_tensors

logger = logging.getLogger(__name__)

_VERSION = 1
_NOW, _BEST, _ADAM = "now", "best", "adam"
_SECONDS_BETWEEN = 60.0
_SHARE_OF_TIME = 0.05
"""Most that is spent on writing."""


class TrainingFacts(BaseModel):
    """The numbers of a state; its tensors lie beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """Of training, all sessions together."""
    text_position: int = 0
    """Windows that were read of the text, those of all rounds together."""
    loss_sum: float = 0.0
    """Of the steps since the last look."""
    loss_steps: int = 0
    curve: LearningCurve = LearningCurve()


@dataclass(kw_only=True)
class TrainingState:
    """Where a training stands."""

    facts: TrainingFacts = field(default_factory=TrainingFacts)
    parameters: Mapping[str, Tensor]
    """As they are now."""
    best: Mapping[str, Tensor]
    """As they were at the best look."""
    adam: Mapping[str, Mapping[str, Tensor]]
    """What the optimiser holds of each parameter."""


class CheckpointFile:
    """One file that holds the last state of a training.

    Args:
        path: Of the file.
        mark: What the training must have begun with to go on from it, ready for JSON.
    """

    def __init__(self, path: Path, mark: Mapping[str, Any]) -> None:
        self.path = path
        self._mark = json.dumps({"version": _VERSION, **mark}, sort_keys=True)
        self._written, self._took = time.monotonic(), 0.0

    @property
    def is_due(self) -> bool:
        """Return whether so much was done since the last one that another is worth its time."""
        wait = max(_SECONDS_BETWEEN, self._took / _SHARE_OF_TIME)
        return time.monotonic() - self._written >= wait

    def save(self, state: TrainingState) -> None:
        """Write a state in the place of the last.

        Raises:
            OutputError: If it cannot be written; the last one stays.
        """
        started = time.monotonic()
        tensors = {f"{_NOW}/{name}": tensor for name, tensor in state.parameters.items()}
        tensors |= {f"{_BEST}/{name}": tensor for name, tensor in state.best.items()}
        for name, held in state.adam.items():
            tensors |= {f"{_ADAM}/{key}/{name}": tensor for key, tensor in held.items()}
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"mark": self._mark, "facts": state.facts.model_dump_json()}
        with writing_tensors(self.path), replacing(self.path) as temporary:
            save_file(whole, temporary, metadata)
        self._written = time.monotonic()
        self._took = self._written - started

    def load(self) -> TrainingState | None:
        """Return the state that a killed training left, if it began as this one does."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("mark") != self._mark:
                    logger.warning(
                        "`%s` is of a healing with other settings, which is given up", self.path
                    )
                    return None
                facts = TrainingFacts.model_validate_json(metadata.get("facts", ""))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, ValidationError, ValueError) as error:
            logger.warning("`%s` is damaged (%s): healing begins anew", self.path, error)
            return None
        return _state(facts, tensors)

    def discard(self) -> None:
        """Remove the file, for the training is over."""
        discard(self.path)


def _state(facts: TrainingFacts, tensors: Mapping[str, Tensor]) -> TrainingState:
    parts: dict[str, dict[str, Tensor]] = {_NOW: {}, _BEST: {}}
    adam: dict[str, dict[str, torch.Tensor]] = {}
    for path, tensor in tensors.items():
        part, _, name = path.partition("/")
        if part == _ADAM:
            key, _, parameter = name.partition("/")
            adam.setdefault(parameter, {})[key] = tensor
        else:
            parts[part][name] = tensor
    return TrainingState(facts=facts, parameters=parts[_NOW], best=parts[_BEST], adam=adam)
