"""Which weights plans were scored with: a digest and a few values of each, in one file."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from search_spaces.atomic_files import writing
from search_spaces.pruned_weights.types import PrunedWeights

logger = logging.getLogger(__name__)

SAMPLES = 64
"""Values remembered of each weights, evenly spaced."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    digest: str
    sample: tuple[float, ...]


class WeightRecord:
    """The weights that a run used first, to tell whether those built again are the same.

    They may not be: a run in bfloat16 whose cached weights are lost builds them for its export in
    float32, and another machine sums in another order. A line for each is added to the file when
    it is first used, and never changed.

    Args:
        path: Of the file, which is made on first use.
        digest: Of all that the weights follow from; lines of others do not count.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._scored = self._read()
        self.differences: dict[str, float] = {}
        """By name, of weights that were used and are others than recorded: the largest difference
        among the values that are remembered."""

    def note(self, name: str, digest: str, weights: PrunedWeights) -> None:
        """Record weights that are used for the first time, or compare them with what is recorded.

        Args:
            name: Of the component and the choice.
            digest: Of every byte.
            weights: What is used.

        Raises:
            OutputError: If the file cannot be written.
        """
        scored = self._scored.get(name)
        if scored is None:
            self._add(name, _Scored(digest=digest, sample=_sample(weights)))
        elif scored.digest != digest and name not in self.differences:
            pairs = zip(scored.sample, _sample(weights), strict=False)
            self.differences[name] = max((abs(old - new) for old, new in pairs), default=0.0)

    def _add(self, name: str, scored: _Scored) -> None:
        self._scored[name] = scored
        line = {
            "of": self._digest,
            "weights": name,
            "digest": scored.digest,
            "sample": scored.sample,
        }
        with writing(self._path), self._path.open("ab") as file:
            # one call, so that lines of several processes do not mix; a torn line before stays one
            file.write(f"\n{json.dumps(line)}".encode())

    def _read(self) -> dict[str, _Scored]:
        found: dict[str, _Scored] = {}
        if not self._path.is_file():
            return found
        for line in self._path.read_bytes().splitlines():
            if not line:
                continue
            try:
                fields = json.loads(line)
                scored = _Scored(
                    digest=str(fields["digest"]), sample=tuple(map(float, fields["sample"]))
                )
                name, of = str(fields["weights"]), fields["of"]
            except (ValueError, TypeError, LookupError):
                logger.warning(
                    "a line of `%s` is damaged: whether its weights are those that were scored "
                    "cannot be told",
                    self._path,
                )
                continue
            if of == self._digest:
                found.setdefault(name, scored)
        return found


def rebuilt_sentence(differences: Mapping[str, float]) -> str:
    """Return what a reader must know of weights that are not those that were scored.

    >>> rebuilt_sentence({"layers.0.mlp 16": 0.25, "layers.1.mlp 16": 0.5})
    'Weights of 2 components were lost after the search and built again; they differ from those \
that were scored, by up to 5.0e-01 in the values compared.'
    """
    count = len(differences)
    return (
        f"Weights of {count} component{'s' if count > 1 else ''} were lost after the search and "
        "built again; they differ from those that were scored, by up to "
        f"{max(differences.values()):.1e} in the values compared."
    )


def _sample(weights: PrunedWeights) -> tuple[float, ...]:
    each = max(1, SAMPLES // max(1, len(weights)))
    values: list[float] = []
    for path in sorted(weights):
        flat = weights[path].weight.detach().flatten()
        # float32 counts no further than to 2 ** 24
        steps = torch.linspace(0, len(flat) - 1, min(each, len(flat)), dtype=torch.float64)
        places = steps.long()
        values += flat[places.to(flat.device)].double().tolist()
    return tuple(values)
