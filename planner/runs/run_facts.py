"""What a run says of itself as a whole, and what a resumed one must agree with."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evaluators.metric import metric_names
from planner.runs.folder import DATABASE_FILE
from planner.runs.refusals import damaged
from planner.runs.store import Store
from planner.settings.search import SearchSettings
from search_spaces.errors import RunError, quoted
from search_spaces.models.identity import SourceIdentity, difference

logger = logging.getLogger(__name__)


class RunFacts:
    """What a run's folder and database say of it."""

    def __init__(self, folder: Path, settings: SearchSettings, store: Store) -> None:
        self.folder = folder
        self.settings = settings
        self._store = store

    @property
    def dense(self) -> Mapping[str, float]:
        """The dense model's costs.

        Raises:
            RunError: If the search has not begun to score.
        """
        dense: Mapping[str, float] = self._begun("dense")
        return dense

    @property
    def smallest(self) -> Mapping[str, float]:
        """The costs of the smallest plan.

        Raises:
            RunError: If the search has not begun to score.
        """
        smallest: Mapping[str, float] = self._begun("smallest")
        return smallest

    @property
    def cost_names(self) -> tuple[str, ...]:
        """The costs that the search minimises.

        Raises:
            RunError: If the search has not begun to score.
        """
        return tuple(self._begun("cost_names"))

    def _begun(self, key: str) -> Any:
        """Return what is stored under a name before anything is scored."""
        value = self.get_meta(key)
        self.check_search()
        if value is None:
            raise RunError(
                f"`{self.folder}` must hold a search that has begun to score, got none; "
                "go on with `planner search … --resume`"
            )
        if key in {"dense", "smallest"}:
            needed = {*metric_names("exact"), *(self.get_meta("cost_names") or ())}
            if lost := needed.difference(value):
                what = f"its entry `{key}` lacks {min(lost)}"
                raise damaged(self.folder / DATABASE_FILE, what)
        return value

    def check_search(self) -> None:
        """Refuse the folder of a comparison, whose searches are in the folders inside.

        Raises:
            RunError: If it is one.
        """
        if recipes := self.get_meta("recipes"):
            raise RunError(
                f"`{self.folder}` must hold a search, got a comparison; give the folder of one "
                f"recipe, such as `{self.folder / recipes[0]}`"
            )

    def check_model(self, identity: SourceIdentity) -> None:
        """Refuse another model than the run's; the first one's identity is stored.

        Raises:
            RunError: If its weights, config or tokenizer are not those that the run began with.
        """
        try:
            first = SourceIdentity.model_validate(self._first("model", identity.model_dump()))
        except ValidationError as error:
            what = "it does not say which model was searched"
            raise damaged(self.folder / DATABASE_FILE, what) from error
        if change := difference(first, identity, "the search"):
            raise RunError(
                f"a run goes on with the model that it began with, and {change}; bring "
                f"{quoted(self.settings.model, 40)} back as it was, or search into another --out"
            )
        if not first.checksum:
            logger.warning(
                "the run is of an older version, which kept no record of the model's config and "
                "tokenizer: changes of these are not noticed"
            )
        elif identity.digest and not first.digest:
            logger.warning(
                "the run began without `--verify full`: its weights are compared by samples and "
                "sums alone"
            )

    def check_text(self, digest: str) -> None:
        """Refuse other windows of text than the run's, if these are recorded.

        Raises:
            RunError: If they are others.
        """
        first = self.get_meta("calibration_digest")
        if first is not None and first != digest:
            raise RunError(
                f"calibration.npz changed since the search: its tokens were {first}, now "
                f"{digest}; bring back the file, or the text it was drawn from, or search into "
                "another --out"
            )

    def check_order(self, digest: str) -> None:
        """Refuse another order of units than the run's; the first one's digest is stored.

        Raises:
            RunError: If the order is another than the run began with.
        """
        first = self._first("order", digest)
        if first != digest:
            raise RunError(
                f"ranking.npz changed since the search: its order and prior were {first}, now "
                f"{digest}; bring back the file, or search into another --out"
            )

    @property
    def arithmetic(self) -> str:
        """The number format and the device that plans were scored with."""
        return str(self.get_meta("arithmetic"))

    def check_arithmetic(self, arithmetic: str) -> None:
        """Refuse to mix scores of two number formats or devices; the first pair is stored.

        Raises:
            RunError: If they are others than those that the run began with.
        """
        first = self._first("arithmetic", arithmetic)
        if first != arithmetic:
            raise RunError(
                f"a resumed run must compute as it began, in {first}, got {arithmetic}; "
                "set `--dtype` and `--device`, or search into another --out"
            )

    def check_latency(self, digest: str) -> None:
        """Refuse to mix latencies from two tables; the first one's digest is stored.

        Raises:
            RunError: If the table is another than the run began with.
        """
        if self._first("latency", digest) != digest:
            raise RunError(
                "a run must keep the latency table that it began with, got another in "
                f"`{self.folder}`; bring its latency.json back, or search into another --out"
            )

    def _first(self, key: str, value: object) -> Any:
        """Return the value that was first stored under a name, which may be this one."""
        if self.get_meta(key) is None:
            self.set_meta(key, value)
        return self.get_meta(key)

    def set_meta(self, key: str, value: object) -> None:
        """Store a JSON value under a name."""
        self._store.set_meta(key, value)

    def get_meta(self, key: str) -> Any:
        """Return the JSON value under a name, ``None`` if there is none."""
        return self._store.get_meta(key)
