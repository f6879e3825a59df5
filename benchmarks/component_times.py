"""Seconds of single component runs, measured on a real generation, to simulate others with."""

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from benchmarks.simulated_workers import Prefixes
from evaluators.scoring.batches import Batch
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.steps import Step
from search_spaces.space.configuration import Configurations


class ComponentTimes:
    """What was measured, drawn from at random for each run of a simulation; see `Times`.

    A component takes as long as those of its kind in other layers that are as wide; of a width
    that was not measured, as the nearest one that was.

    Args:
        steps: Of the tree, each of one component, in the order in which these run.
        kinds: Of these components.
        seed: Of what is drawn.
    """

    def __init__(self, steps: Sequence[Step], kinds: Sequence[str], seed: int) -> None:
        self._stops = [step.stop for step in steps]
        self._kinds = kinds
        self._depths = {stop: depth for depth, stop in enumerate(self._stops)}
        self._measured: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._readings: list[float] = []
        self._rng = np.random.default_rng(seed)

    @classmethod
    def measured(
        cls, tree: PrefixTree, configurations: Configurations, batch: Batch, seed: int
    ) -> "ComponentTimes":
        """Walk a tree and measure each step.

        Args:
            tree: Of a model.
            configurations: ``(candidates, components)``
            batch: Of text.
            seed: Of what is drawn afterwards.
        """
        components = tree.structure.components
        kinds = [components[tree.running_order[step.start]].kind for step in tree.running_steps]
        times = cls(tree.running_steps, kinds, seed)
        times.walk_through(tree, configurations, batch)
        return times

    @torch.inference_mode()
    def walk_through(self, tree: PrefixTree, configurations: Configurations, batch: Batch) -> None:
        """Measure each step and each reading of some candidates on some text."""
        last = time.perf_counter()

        def ran(prefix: Configurations, _: Tensor) -> None:
            nonlocal last
            now = time.perf_counter()
            self.add(prefix, now - last)
            last = now

        arriving = tree.walk(configurations, batch.inputs, on_state=ran)
        while group := [batch.readout.pick(final) for _, final in islice(arriving, HEADS_AT_ONCE)]:
            started = time.perf_counter()
            batch.readout.compare(group)
            last = time.perf_counter()
            self.add_reading((last - started) / len(group))

    def add(self, prefix: Configurations, seconds: float) -> None:
        """Take in what the last step of a prefix took."""
        kind = self._kinds[self._depths[len(prefix)]]
        self._measured[kind][int(prefix[-1])].append(seconds)

    def add_reading(self, seconds: float) -> None:
        """Take in what it took to read a candidate out."""
        self._readings.append(seconds)

    @property
    def reading(self) -> float:
        """Seconds of reading a candidate out."""
        return self._drawn(self._readings)

    def walk(self, configurations: Configurations, run: Prefixes) -> tuple[float, Prefixes]:
        """Draw the seconds of what a candidate runs beyond some prefixes; see `Times`."""
        prefixes = [configurations[:stop] for stop in self._stops]
        new = [prefix for prefix in prefixes if prefix.tobytes() not in run]
        seconds = sum(self._drawn(self._nearest(prefix)) for prefix in new)
        return seconds, {prefix.tobytes() for prefix in new}

    def _drawn(self, seconds: Sequence[float]) -> float:
        return seconds[int(self._rng.integers(len(seconds)))]

    def _nearest(self, prefix: Configurations) -> list[float]:
        known = self._measured[self._kinds[self._depths[len(prefix)]]]
        return known[min(known, key=lambda choice: abs(choice - int(prefix[-1])))]
