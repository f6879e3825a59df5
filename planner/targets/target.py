"""What a target of exports must offer: what it holds, how it is written, how it runs there."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evaluators.latency.measure import Latency, Workload
from planner.targets.cut_layers import CutLayers
from planner.targets.target_names import TargetChoice
from search_spaces.models.loading import LoadedModel
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Dimension
from search_spaces.structure.components import Component, ComponentKind
from search_spaces.structure.model import ModelStructure


def _any(_component: Component, _units: int, _options: BlockOptions) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Holds:
    """What a target can hold of one model: rules that a plan and a space are asked by alike."""

    refuses_model: str = ""
    """Why it holds nothing of this model; empty: it does hold it."""
    refuses: Callable[[Component, int, BlockOptions], str] = _any
    """Why it does not hold a component with so many units and such options; empty: it does."""
    equal: Mapping[ComponentKind, frozenset[Dimension]] = field(default_factory=dict)
    """For each kind of component along what all that are kept of the model must be alike."""
    whole_layers: bool = False
    """Whether a layer must keep some of all its components, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What those who load a written model must know."""

    loading: str
    """How it is loaded in each runtime, as a section of the card, in Markdown."""
    requires: str = ""
    """Versions of the runtime that read it as meant; empty: all that know its family."""
    needs_remote_code: bool = False
    """Whether loading takes ``trust_remote_code=True``, for code of ours that lies there."""
    tokenizer_needs_remote_code: bool = False
    """Whether loading the tokenizer does, for code that it brought."""
    notes: tuple[str, ...] = ()
    """What a reader should know besides, in sentences, such as tensors of zeros that stand for
    what is dropped."""


class Served(Protocol):
    """A model as its runtime has loaded it; nothing of the planner's own model is at hand."""

    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the logits ``(batch, tokens, vocabulary)`` of token ids ``(batch, tokens)``."""
        ...

    def stepped_logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the same of the second half of the tokens, read one by one with the cache."""
        ...

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the tokens that it writes after a prompt, the most probable each time."""
        ...

    def time(self, workload: Workload) -> Latency:
        """Time one request, once; who compares models takes turns and medians."""
        ...


class Target(Protocol):
    """One kind of export; its name, such as ``gguf``, is that of its folder."""

    name: str
    runtime: str
    """What it is proved and timed in, such as ``llama.cpp``."""
    tolerance: float
    """Largest difference of logits, in standard deviations of the dense model's logits."""
    modules: tuple[str, ...]
    """What a process imports that is to serve it."""

    @property
    def choice(self) -> TargetChoice:
        """What makes it again in another process."""
        ...

    @property
    def proof_variant(self) -> "Target":
        """What writes the same model without loss, to be proved in its place; most are that."""
        ...

    @property
    def runtime_version(self) -> str:
        """The version of the runtime that is installed."""
        ...

    def check_installed(self) -> None:
        """Refuse to go on without the packages that it takes.

        Raises:
            MissingExtraError: If one is missing; the message has the line that installs it.
        """
        ...

    def holds(self, structure: ModelStructure) -> Holds:
        """Return what it can hold of a model."""
        ...

    def write(
        self, folder: Path, cut: CutLayers, dense: LoadedModel, source: Path | None
    ) -> Written:
        """Write a pruned model, its tokenizer and what belongs to it into an empty folder.

        Args:
            folder: An empty one.
            cut: What is written.
            dense: The model that it was cut from.
            source: The files of that model; None: they are not at hand.
        """
        ...

    def dense_folder(self, scratch: Path, structure: ModelStructure, dense: LoadedModel) -> Path:
        """Return the dense model's folder as the runtime reads it, made in the scratch folder if
        it is not one already, to compare with.
        """
        ...

    def serve(
        self, folder: Path, *, threads: int, exact: bool = False
    ) -> AbstractContextManager[Served]:
        """Load what was written, in its runtime.

        Args:
            folder: As `write` left it.
            threads: That it may compute with.
            exact: Whether to compute in float32 and cache so, to be proved, and not as served.

        Raises:
            VerificationError: If the runtime does not take it.
        """
        ...
