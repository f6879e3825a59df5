"""``space.json``: what a run chooses among, for readers without its model."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.runs.folder import SPACE_FILE
from planner.runs.refusals import foreign_version
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import RunError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.levels import stood_in_for

VERSION = 3
KEPT_WHOLE = "matrices"
"""What units are called of what is kept whole, the embedding and the head, after all layers."""
_MOST = 2**31
_Count = Annotated[int, Field(ge=0, le=_MOST)]
_Size = Annotated[int, Field(ge=1, le=_MOST)]
_Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Kept(_Described):
    """What is kept of one component."""

    units: _Count
    options: Mapping[str, _Count | str] = {}
    """How they are stored and run, by the names of `BlockOptions`, where it is not as in the
    dense model: ``pattern``, ``format``, ``cache``, ``channels``, ``top_k``; and of what is
    dropped ``stand_in``, the component that stands in for it."""


class ComponentDescription(_Described):
    """One component of the dense model."""

    name: str
    kind: str
    layer: _Count
    units: _Size
    unit: str
    """What a unit is, in the plural: KV groups, channels or experts; matrices of what is kept
    whole, the embedding and the head."""
    features: _Count
    """Inputs of the component's last matrix that belong to one unit; channels of an expert."""
    groups: _Count = 1
    """Members of the model that a unit stands for, all of which are kept or pruned."""
    channels: _Count = 0
    """Channels of each expert; 0: it has no experts."""
    top_k: _Count = 0
    """Experts that run for a token; 0: it has none."""
    stands_in: bool = False
    """Whether it may stand in for dropped components after it."""


class SiteDescription(_Described):
    """One choice of the search, and what each of its levels keeps and costs."""

    name: str
    dimension: str
    """What it chooses: the number of ``units``, or one of their options by its name."""
    targets: tuple[str, ...]
    """The components that it affects."""
    levels: tuple[tuple[Kept, ...], ...]
    """For each level, ascending, what is kept of each target, other sites at their top. Where
    several sites choose the units of a target, the fewest are kept."""
    stands_in: bool = False
    """Whether its targets are dropped at the second level too, and there what is kept before them
    stands in for them."""
    costs: Mapping[str, tuple[_Cost, ...]]
    """For each cost, in its own unit, that of the model at each level, other sites at their top:
    less the dense model's, it is what the level saves."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        levels = len(self.levels)
        if not levels or any(len(level) != len(self.targets) for level in self.levels):
            raise ValueError("a level keeps something of each target")
        if any(len(costs) != levels for costs in self.costs.values()):
            raise ValueError("a cost has a value for each level")
        return self


class SpaceDescription(_Described):
    """What a run chooses among: a genome is one level for each site, in their order."""

    version: Annotated[int, Field(ge=VERSION, le=VERSION)]
    model: ModelIdentity
    components: tuple[ComponentDescription, ...]
    """Layer by layer, and then the embedding and the head, if they are chosen for."""
    sites: tuple[SiteDescription, ...]
    dense_costs: Mapping[str, _Cost]
    needed: tuple[str, ...] = ()
    """Components of which some are kept: if a genome drops all, the first site that sizes the
    first of them is at the lowest level that keeps some of it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        widths = {component.name: component.units for component in self.components}
        if len(widths) < len(self.components):
            raise ValueError("components have names of their own")
        for site in self.sites:
            for kept in (zip(site.targets, level, strict=True) for level in site.levels):
                if any(k.units > widths.get(name, -1) for name, k in kept):
                    raise ValueError("a site keeps units of components that there are")
        if not set(self.needed) <= widths.keys():
            raise ValueError("what is needed is a component")
        if self.needed:
            self._check_kept(self.needed[0])
        return self

    def _check_kept(self, name: str) -> None:
        """Refuse a component that is needed, may be dropped, and cannot be brought back."""
        counts = [_units_of(site, name) for site in self._sizing(name)]
        if any(0 in by_level for by_level in counts) and not any(counts[0]):
            raise ValueError("what is needed has a level that keeps some of it")

    @property
    def digest(self) -> str:
        """What identifies the description, however its file is laid out."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """Return the text of the file."""
        return self.model_dump_json(exclude_defaults=True) + "\n"

    def kept(self, genome: Sequence[int]) -> dict[str, Kept]:
        """Return what a genome keeps of each component.

        Raises:
            RunError: If it is none of this space.
        """
        tops = [len(site.levels) for site in self.sites]
        is_ours = len(genome) == len(tops) and all(
            0 <= level < top for level, top in zip(genome, tops, strict=True)
        )
        if not is_ours:
            raise RunError(
                f"a plan must be of the space in {SPACE_FILE}, got one of another; go on with "
                "the search where the model is, which makes the file again"
            )
        kept = self._kept(genome)
        if self.needed and not any(kept[name].units for name in self.needed):
            site = self._sizing(self.needed[0])[0]
            position, counts = self.sites.index(site), _units_of(site, self.needed[0])
            lowest = next(level for level, count in enumerate(counts) if count)
            kept = self._kept([*genome[:position], lowest, *genome[position + 1 :]])
        return kept

    def _sizing(self, name: str) -> list[SiteDescription]:
        """Return the sites that choose how many units of a component are kept."""
        return [s for s in self.sites if s.dimension == "units" and name in s.targets]

    def _kept(self, genome: Sequence[int]) -> dict[str, Kept]:
        units = {component.name: component.units for component in self.components}
        options: dict[str, dict[str, int | str]] = {name: {} for name in units}
        for site, level in zip(self.sites, genome, strict=True):
            for name, kept in zip(site.targets, site.levels[level], strict=True):
                if site.dimension == "units":
                    units[name] = min(units[name], kept.units)
                else:
                    options[name] |= kept.options
        stand_ins = self._stand_ins(genome, units)
        return {
            name: Kept(units=count, options=options[name] if count else stand_ins.get(name, {}))
            for name, count in units.items()
        }

    def _stand_ins(
        self, genome: Sequence[int], units: Mapping[str, int]
    ) -> dict[str, dict[str, str]]:
        """Return which component stands in for which dropped one, as its options."""
        asking = {
            name
            for site, level in zip(self.sites, genome, strict=True)
            if site.stands_in and level == 1
            for name in site.targets
        }
        names = [component.name for component in self.components]
        asked = np.array([name in asking and not units[name] for name in names])
        stands = np.array([each.stands_in and units[each.name] > 0 for each in self.components])
        counts = stood_in_for(asked, stands).tolist()
        return {
            name: {"stand_in": names[before]}
            for before, count in enumerate(counts)
            for name in names[before + 1 : before + 1 + count]
        }


def _units_of(site: SiteDescription, name: str) -> list[int]:
    """Return how many units of a target a site keeps at each level."""
    place = site.targets.index(name)
    return [level[place].units for level in site.levels]


def save_space(folder: Path, space: SpaceDescription) -> None:
    """Write ``space.json`` into a run's folder, unless it holds the same.

    Raises:
        OutputError: If the folder cannot be written to.
    """
    path, text = folder / SPACE_FILE, space.to_json()
    try:
        is_same = path.read_bytes() == text.encode()
    except OSError:  # writing says what is wrong with it
        is_same = False
    if not is_same:
        atomic_write_text(path, text)


def read_space(folder: Path, digest: str | None = None) -> SpaceDescription:
    """Read ``space.json`` from a run's folder.

    Args:
        folder: Of the run.
        digest: Of what the search wrote; `None`: it is not known.

    Raises:
        RunError: If it is missing or damaged, of another version, or not what the search wrote.
    """
    path, what = folder / SPACE_FILE, "it is another than was written"
    try:
        space = SpaceDescription.model_validate_json(path.read_bytes(), strict=True)
        if digest in {None, space.digest}:
            return space
    except FileNotFoundError:
        what = "it is missing"
    except PermissionError:  # a sound file may be behind it
        raise
    except ValidationError as error:
        version = foreign_version(error)
        what = "it is damaged" if version is None else f"it is of version {version!s:.20}"
    except OSError:
        what = "it is damaged"
    raise RunError(
        f"`{path}` must say in version {VERSION} what the search chooses among, and {what}; go "
        "on with the search where the model is, which makes it again"
    )
