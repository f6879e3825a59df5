"""One stage of a pipeline over depth: it runs its own layers and passes hidden states on."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE, measured
from evaluators.scoring.prefix_tree import Branch, PrefixTree
from evaluators.scoring.readout import Readout
from evaluators.scoring.score import Score
from search_spaces.errors import SettingsError
from search_spaces.models.memory import is_out_of_memory
from search_spaces.models.tensor_files import writing_tensors
from search_spaces.space.configuration import Configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.backbone import LayerInputs
from search_spaces.surgery.layer_builder import LayerBuilder

Windows = tuple[int, ...]
"""Positions of the windows of a batch among all, in the order in which they are batched."""


class Stage:
    """Runs candidates through a stretch of layers, from files of hidden states to such files.

    The last one reads them out, and has the dense model's side of the text. Each shared prefix is
    run once, and what a candidate comes to is what one process makes of it, bit for bit.

    Args:
        sorted_model: The model; the layers of the stage are in memory.
        windows: Token ids ``(windows, tokens)``.
        fidelity: How finely they are scored.
        layer_builder: Builds layers in a configuration.
        layers: Of this stage.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        windows: Tensor,
        fidelity: Fidelity,
        *,
        layer_builder: LayerBuilder,
        layers: range,
    ) -> None:
        self._backbone = sorted_model.structure.backbone
        self._windows = windows
        self._fidelity = fidelity
        self._layers = layers
        self._tree = PrefixTree(sorted_model, layer_builder)
        self._batches = WindowBatches(self._backbone, windows, fidelity)
        depths = [d for d, step in enumerate(self._tree.steps) if step.layer in layers]
        self._start, self._stop = depths[0], depths[-1] + 1
        self._finals: dict[Windows, Tensor] = {}
        """Of the dense model, ``(windows, tokens, hidden)``."""
        self._readouts: dict[Windows, Readout] = {}
        self._sampled: Windows = ()

    @property
    def windows_at_once(self) -> int:
        """Windows that are run at once, as one process does."""
        return self._batches.windows_at_once

    def shrink_to(self, windows: int) -> None:
        """Do nothing: all stages run the batches that the search makes."""

    @torch.inference_mode()
    def dense(
        self,
        configurations: Configurations,  # noqa: ARG002 - of the dense model, which needs none
        *,
        windows: Windows,
        entering: Path | None,
        leaving: Sequence[Path],
    ) -> Iterator[tuple[int, float]]:
        """Run the dense model, as its own forward does; see `advance`."""
        started = time.monotonic()
        with self._telling_of_memory(windows):
            _save(self._through(windows, entering), leaving[0])
        yield 0, time.monotonic() - started

    @torch.inference_mode()
    def advance(
        self,
        configurations: Configurations,
        *,
        windows: Windows,
        entering: Path | None,
        leaving: Sequence[Path] = (),
        teachers: Mapping[Windows, Path],
    ) -> Iterator[tuple[int, float | Score]]:
        """Run candidates that agree up to this stage, on one batch.

        Args:
            configurations: ``(candidates, components)``, of which no two agree up to the end.
            windows: Of the batch.
            entering: Hidden states after the stage before; None: this is the first one.
            leaving: Where hidden states after this stage go, of each candidate; the last stage
                leaves none.
            teachers: The dense model's hidden states before the last stage, by the windows that
                were batched; the last stage needs those of all windows of this batch.

        Yields:
            Position of the candidate, and the seconds that it took, or its score on the batch in
            the last stage.

        Raises:
            OutputError: If the disk cannot hold hidden states.
            SettingsError: If memory does not suffice.
        """
        with self._telling_of_memory(windows):
            inputs = self._inputs(windows)
            starts = None
            if entering is not None:
                members = np.arange(len(configurations))
                starts = [Branch(members, self._start, self._load(entering))]
            if self._stop == len(self._tree.steps):
                yield from self._read_out(configurations, windows, inputs, starts, teachers)
                return
            started = time.monotonic()
            for branch in self._tree.grow(configurations, inputs, starts, depth=self._stop):
                for member in branch.members.tolist():
                    _save(branch.hidden, leaving[member])
                    now = time.monotonic()
                    yield member, now - started
                    started = now

    def _read_out(
        self,
        configurations: Configurations,
        windows: Windows,
        inputs: LayerInputs,
        starts: Sequence[Branch] | None,
        teachers: Mapping[Windows, Path],
    ) -> Iterator[tuple[int, Score]]:
        readout = self._readout(inputs.tokens, windows, teachers)
        arriving = self._tree.walk(configurations, inputs, starts)
        started = time.monotonic()
        while group := [
            (member, readout.pick(final)) for member, final in islice(arriving, HEADS_AT_ONCE)
        ]:
            found = measured(self._tree.ends, configurations, group, readout)
            seconds = (time.monotonic() - started) / len(group)
            for member, values in found.items():
                yield member, Score.of(values, inputs.tokens.numel(), seconds)
            started = time.monotonic()

    def _readout(
        self, tokens: Tensor, windows: Windows, teachers: Mapping[Windows, Path]
    ) -> Readout:
        """Return the readout of a batch; those of parts of the text are kept, and the last one."""
        if windows not in self._readouts:
            if windows not in teachers:
                self._readouts.pop(self._sampled, None)
                self._sampled = windows
            for part, path in teachers.items():
                if part not in self._finals:
                    self._finals[part] = self._backbone.leave(self._through(part, path))
            batched = [window for part in teachers for window in part]
            rows = torch.tensor([batched.index(window) for window in windows])
            final = torch.cat([self._finals[part] for part in teachers])[rows.to(tokens.device)]
            self._readouts[windows] = Readout(
                self._backbone,
                tokens,
                final,
                self._batches.positions[list(windows)],
                self._fidelity.metrics,
            )
        return self._readouts[windows]

    def _through(self, windows: Windows, entering: Path | None) -> Tensor:
        """Return the dense model's hidden states after this stage."""
        inputs = self._inputs(windows)
        hidden = inputs.hidden if entering is None else self._load(entering)
        for index in self._layers:
            hidden = self._backbone.run_layer(
                self._backbone.layers[index], hidden, inputs.calls[index]
            )
        return hidden

    def _inputs(self, windows: Windows) -> LayerInputs:
        tokens = self._windows[list(windows)].to(self._backbone.model.device)
        hidden, calls = self._backbone.approach(tokens)
        # what a tree runs asks for no final state of the dense model, which takes all layers
        return LayerInputs(tokens, hidden, calls, final=hidden)

    def _load(self, path: Path) -> Tensor:
        with safe_open(path, framework="pt", backend="pread") as file:
            hidden: Tensor = file.get_tensor("hidden")
        # into memory of its own, as torch places it: kernels round by where a tensor begins
        return hidden.to(self._backbone.model.device, copy=True)

    @contextmanager
    def _telling_of_memory(self, windows: Windows) -> Iterator[None]:
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise SettingsError(
                f"memory must suffice for {len(windows)} windows at once in each stage of a "
                f"pipeline, and it does not for layers {self._layers.start} to "
                f"{self._layers.stop - 1}; set more `--workers`, or lower `--window_tokens`"
            ) from error


def _save(hidden: Tensor, path: Path) -> None:
    with writing_tensors(path):
        save_file({"hidden": hidden.contiguous()}, path)
