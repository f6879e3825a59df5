"""What a target of exports must offer: what it holds, how it is written, how it runs there."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from evaluators.latency.workload import Latency, Workload
from planner.targets.cut_layers import CutLayers
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.holds import Holds
from search_spaces.space.number_format import NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

__all__ = ["Holds", "Served", "Target", "Written"]


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
    experts: str = ""
    """What is kept of a mixture's experts, in a sentence; empty if there are none."""
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

    @property
    def name(self) -> TargetName: ...
    @property
    def runtime(self) -> str:
        """What it is proved and timed in, such as ``llama.cpp``."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest difference of logits, in standard deviations of the dense model's logits."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """What a process imports that is to serve it."""
        ...

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

    def holds(
        self, structure: ModelStructure, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> Holds:
        """Return what it can hold of a model.

        Args:
            structure: Of the model.
            tokenizer: That must be held with it; None: only the model is asked about.
        """
        ...

    def stored(self, structure: ModelStructure, stored: StoredFormat) -> StoredFormat:
        """Return the formats in which it writes weights for which a plan chooses none.

        Args:
            structure: The dense model, which it holds.
            stored: Those that the dense model has on disk.
        """
        ...

    def keeps(
        self, structure: ModelStructure, component: Component, number_format: NumberFormat
    ) -> bool:
        """Return whether it writes a component's matrices in a number format as such.

        If not, it writes what they stand for, as it does with those for which a plan chooses none.

        Args:
            structure: The dense model, which it holds.
            component: Of it.
            number_format: That a plan chose.
        """
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
        """Return a folder of the dense model that the runtime reads, to compare with.

        Args:
            scratch: An empty folder, to make it in if the runtime cannot read the model's own.
            structure: The dense model, its units in their own order.
            dense: The same as it was loaded.
        """
        ...

    def check_size(
        self, folder: Path, cut: CutLayers, promised: Mapping[str, float], stored: float
    ) -> None:
        """Compare what was written with what was promised of it.

        Args:
            folder: As `write` left it.
            cut: What was written.
            promised: Costs of the plan, ``params`` and ``nonzero`` among them.
            stored: Bytes of the tensors that were to be written, in the number formats that it
                holds and else as `stored` says.

        Raises:
            VerificationError: If the files hold something else.
        """
        ...

    def check_variant(self, folder: Path, proved: Path) -> None:
        """Check that what was written is what was proved in its place, rounded.

        Args:
            folder: As `write` left it.
            proved: As that of `proof_variant` left it, which is another target.

        Raises:
            VerificationError: If it is not; what differs is named.
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
