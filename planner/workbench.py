"""A model made ready to be searched: loaded, read, calibrated, ranked and sorted."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from evaluators.calibration import Calibration, TextSource, Windows, from_model, from_text
from evaluators.cost_model import CostModel
from evaluators.memory import keep_pages
from evaluators.precision import pick_device, pick_dtype
from evaluators.statistics import collect_statistics
from planner.listener import Listener
from planner.searchers.domain import Cost, Domain
from planner.settings import SearchSettings
from planner.tables import TABLE_FILE
from search_spaces.errors import RunError, SettingsError
from search_spaces.files import replacing
from search_spaces.harm import HARM_STATISTICS, relative_energies
from search_spaces.loading import LoadedModel, load_model
from search_spaces.rankings import make_ranking
from search_spaces.sorting import rank_units, sort_units_
from search_spaces.space import SearchSpace, Site, build_space
from search_spaces.structure.backbone import position_count
from search_spaces.structure.read import ModelStructure, check_exportable, read_structure

_CALIBRATION_FILE = "calibration.npz"
_RANKING_FILE = "ranking.npz"
PREPARED_FILES = (_CALIBRATION_FILE, _RANKING_FILE, TABLE_FILE)
"""What a run keeps of its preparation, as far as it needed it."""


@dataclass(frozen=True, kw_only=True)
class DenseModel:
    """A dense model whose structure and costs are known."""

    loaded: LoadedModel
    structure: ModelStructure
    costs: CostModel


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """All that scoring needs; the model's units are sorted."""

    dense: DenseModel
    space: SearchSpace
    calibration: Calibration
    harms: tuple[NDArray[np.float64], ...]
    """For each sub-block what each unit is guessed to be worth, in the space's order."""

    def smallest(self) -> Mapping[str, float]:
        """Give the costs of the smallest plan."""
        return self.costs_of(self.space.smallest())

    def costs_of(self, genome: NDArray[np.int_]) -> Mapping[str, float]:
        """Give the costs of one genome ``(sites,)``."""
        counts = self.space.counts(self.space.mended(genome[None]))
        return {name: float(cost[0]) for name, cost in self.dense.costs.costs(counts).items()}

    def domain(
        self,
        limits: Mapping[str, float | None],
        cost_floor: float,
        *,
        only_budget: bool = False,
    ) -> Domain:
        """Tell a searcher the levels and what they cost.

        Args:
            limits: The costs to make small, each with the share of the dense model's that the
                budget allows, if it does limit it. A search spreads over the first.
            cost_floor: Lowest share of the first cost that is worth looking at.
            only_budget: Whether the best plan within the budget is all that is wanted.
        """
        harms = [np.append(np.cumsum(h[::-1])[::-1], 0.0) for h in self.harms]
        return Domain(
            top_levels=self.space.top_levels,
            costs=tuple(self._cost(name, limit) for name, limit in limits.items()),
            cost_floor=cost_floor,
            only_budget=only_budget,
            harm_tables=tuple(
                np.sum([harms[t][list(kept)] for t, kept in site.kept_by_target.items()], axis=0)
                for site in self.space.sites
            ),
            kinds=tuple(map(self._kind, self.space.sites)),
        )

    def _kind(self, site: Site) -> str:
        if len(site.targets) > 1:
            return "layer"
        return self.space.sub_blocks[site.targets[0]].kind

    def _cost(self, name: str, limit: float | None) -> Cost:
        dense = self.dense.costs.dense()[name]
        tables = [t / dense for t in self.dense.costs.level_costs(name, self.space)]
        fixed = 1.0 - sum(float(table[-1]) for table in tables)
        return Cost(tables=tuple(tables), fixed=fixed, limit=limit)


def open_model(settings: SearchSettings, listener: Listener) -> DenseModel:
    """Load a model and read its structure.

    Raises:
        ModelError: Where it cannot be loaded or read.
    """
    once = " (a GGUF file is unpacked the first time: a minute)"
    listener.stage(f"loading {settings.model}{once if settings.model.endswith('.gguf') else ''}")
    device = pick_device(settings.device)
    loaded = load_model(
        settings.model,
        dtype=pick_dtype(settings.dtype, device),
        device=device,
        trust_remote_code=settings.trust_remote_code,
        offload=settings.offload,
    )
    if loaded.stream:
        keep_pages()  # each layer takes the place of the last: reading it costs a fifth
        listener.say("its layers stay on disk, and each is read when it is used")
    listener.stage("reading its structure")
    check_exportable(loaded.model)
    structure = read_structure(loaded.model, loaded.stream)
    costs = CostModel(structure, stored_dtype=loaded.stored_dtype, context=settings.window_tokens)
    return DenseModel(loaded=loaded, structure=structure, costs=costs)


def _check_window(model: PreTrainedModel, tokens: int) -> None:
    """Refuse windows that are longer than the model reads.

    Raises:
        SettingsError: Where they are.
    """
    longest = position_count(model)
    if longest is not None and tokens > longest:
        raise SettingsError(
            f"`window_tokens` must be at most the {longest} positions of the model, got {tokens}; "
            f"set `--window_tokens {longest}` or lower"
        )


def prepare(
    dense: DenseModel, settings: SearchSettings, folder: Path, listener: Listener
) -> Workbench:
    """Calibrate, rank and sort a dense model; its weights are permuted in place.

    Args:
        dense: The model, as `open_model` gives it.
        settings: Of the search.
        folder: Of the run; calibration tokens found there are used again, and kept otherwise.
        listener: Told of progress.

    Raises:
        DataError: Where the calibration text cannot be used.
        SettingsError: Where windows are longer than the model reads, or a streamed model would
            have to write the text.
    """
    _check_window(dense.loaded.model, settings.window_tokens)
    calibration = _calibrate(dense, settings, folder / _CALIBRATION_FILE, listener)
    path = folder / _RANKING_FILE
    if not path.is_file():
        listener.stage("ranking heads and channels")
        ranking = make_ranking(settings.ranking)
        wanted = ranking.statistics | HARM_STATISTICS
        statistics = collect_statistics(dense.structure, calibration.search, wanted)
        orders = rank_units(dense.structure, ranking, statistics)
        harms = relative_energies(dense.structure, statistics)
        arrays: dict[str, NDArray[Any]] = {}
        for block, order, harm in zip(dense.structure.sub_blocks, orders, harms, strict=True):
            arrays |= {block.name: order, f"{block.name}.harm": harm[order]}
        with replacing(path) as whole:
            np.savez(whole, allow_pickle=False, **arrays)
    space = ranked_space(dense, settings, folder)
    sort_units_(dense.structure, space.orders)
    with np.load(path, allow_pickle=False) as saved:
        ordered = tuple(saved[f"{block.name}.harm"] for block in space.sub_blocks)
    return Workbench(dense=dense, space=space, calibration=calibration, harms=ordered)


def ranked_space(dense: DenseModel, settings: SearchSettings, folder: Path) -> SearchSpace:
    """Lay out the space of a run whose ranking lies in its folder.

    Args:
        dense: The run's model, not sorted.
        settings: The run's settings.
        folder: The run's folder.

    Raises:
        RunError: Where the ranking is missing or is another model's.
    """
    blocks = dense.structure.sub_blocks
    try:
        with (
            (folder / _RANKING_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as saved,
        ):
            orders = [saved[block.name] for block in blocks]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise RunError(
            f"`{folder}` must hold the ranking of its model, and {_RANKING_FILE} does not: "
            f"{error}; search again into another --out"
        ) from error
    return build_space(
        dense.loaded.identity,
        blocks,
        orders,
        kind=settings.space,
        mlp_step=settings.mlp_step,
    )


def laid_out_for(bench: Workbench, settings: SearchSettings, folder: Path) -> Workbench:
    """Give the same model another space: what is loaded, sorted and calibrated is shared.

    Args:
        bench: A workbench.
        settings: Of the search to come; all but what may be cut as those of the workbench.
        folder: Of its run, which must hold the ranking.
    """
    return replace(bench, space=ranked_space(bench.dense, settings, folder))


def _calibrate(
    dense: DenseModel, settings: SearchSettings, path: Path, listener: Listener
) -> Calibration:
    if path.is_file():
        try:
            return Calibration.load(path)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(
                f"`{path}` must hold the run's tokens, and it is damaged: {error}; "
                "remove it and use --resume, or search again into another --out"
            ) from error
    windows = Windows(
        search=settings.windows,
        fresh=settings.fresh_windows,
        holdout=settings.holdout_windows,
        tokens=settings.window_tokens,
    )
    if settings.data is None:
        if dense.structure.backbone.streamed:
            raise SettingsError(
                "`data` must be given for a model that is streamed from disk, got none: writing "
                "text would read all its weights for each token; set `--data`"
            )
        listener.stage("sampling calibration text from the model")
        calibration = from_model(
            dense.loaded.model, windows, seed=settings.seed, on_step=listener.advance
        )
    else:
        listener.stage(f"reading {settings.data}")
        source = TextSource(
            data=settings.data,
            holdout=settings.holdout,
            split=settings.split,
            column=settings.column,
        )
        rng = np.random.default_rng(settings.seed)
        calibration = from_text(source, dense.loaded.tokenizer, windows, rng=rng)
    with replacing(path) as whole:
        calibration.save(whole)
    return calibration
