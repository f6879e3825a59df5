"""The plan: what is kept of one model, as portable JSON."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from search_spaces.errors import PlanError
from search_spaces.patterns import Pattern
from search_spaces.structure.sub_block import SubBlock


class ModelIdentity(BaseModel):
    """Which model a plan belongs to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    architecture: str
    """The model's class name."""
    fingerprint: str
    """Hash of its weights' names, shapes and a sample of their values."""
    params: int
    """Parameters of the dense model, tied ones once."""


class Kept(BaseModel):
    """What a plan keeps of one sub-block."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    unit_count: int
    """Units of the dense sub-block."""
    kept: str
    """Units that stay, as ascending ranges such as ``0-3,7``; empty where it is dropped."""
    pattern: str = ""
    """How sparse the weights of its matrices are, such as ``50%`` or ``2:4``; empty: dense."""

    @classmethod
    def of(cls, units: NDArray[np.int_], unit_count: int, pattern: str = "") -> Self:
        """Write units down as ranges."""
        ordered = np.sort(units)
        starts = np.flatnonzero(np.diff(ordered, prepend=-2) != 1)
        stops = np.append(starts, len(ordered))[1:]
        ranges = [
            f"{ordered[a]}" if b - a == 1 else f"{ordered[a]}-{ordered[b - 1]}"
            for a, b in zip(starts, stops, strict=True)
        ]
        return cls(unit_count=unit_count, kept=",".join(ranges), pattern=pattern)

    @property
    def units(self) -> NDArray[np.int_]:
        """The kept units, ascending.

        Raises:
            PlanError: Where the text is no list of ascending ranges of known units.
        """
        kept: list[int] = []
        for part in filter(None, self.kept.split(",")):
            found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
            if not found:
                raise PlanError(
                    f"kept units must be ranges such as `0-3,7`, got `{part[:60]}`; "
                    "export the plan again from its run"
                )
            first, last = int(found[1]), int(found[2] or found[1])
            if not (kept[-1] if kept else -1) < first <= last < self.unit_count:
                raise PlanError(
                    f"kept units must ascend and lie below {self.unit_count}, got "
                    f"`{self.kept[:60]}`; export the plan again from its run"
                )
            kept.extend(range(first, last + 1))
        return np.asarray(kept, dtype=np.int_)


class Plan(BaseModel):
    """A genome made portable: what is kept of each sub-block of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1, 2] = 2
    model: ModelIdentity
    sites: dict[str, Kept]
    """By sub-block name such as ``layers.3.mlp``."""
    repair: str = ""
    """How weights were made that are not the dense model's own, and from which text, in one hash;
    empty: what is kept is as it was."""

    @property
    def plan_id(self) -> str:
        """Ten hexadecimal digits that stand for what is kept, whatever the file's layout."""
        content: dict[str, str | list[str]] = {
            name: [kept.kept, kept.pattern] if kept.pattern else kept.kept
            for name, kept in sorted(self.sites.items())
        }
        text = json.dumps([self.model.fingerprint, content, *filter(None, [self.repair])])
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for kept in self.sites.values():
            if kept.pattern:
                Pattern.parse(kept.pattern)
                if not self.repair:
                    raise PlanError(
                        "a plan with sparse weights must say how they were made, and `repair` is "
                        "empty; export the plan again from its run"
                    )
        return self

    def to_json(self) -> str:
        """Give the file's text."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan file.

        Raises:
            PlanError: Where the file is missing or is no plan of this version.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(
                f"a plan must be a readable JSON file, and `{path}` is not: {error}; "
                "check the path"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise PlanError(
                f"`{path}` must be a plan of version 1 or 2, and {where} is wrong: "
                f"{first['msg']}; export the plan again from its run"
            ) from error

    def check_model(self, identity: ModelIdentity) -> None:
        """Refuse a model that the plan was not made for.

        Raises:
            PlanError: Where the model's weights are not those the plan was made for.
        """
        if identity != self.model:
            raise PlanError(
                f"a plan fits only the model it was made for, {self.model.architecture} "
                f"{self.model.fingerprint}, got {identity.architecture} {identity.fingerprint}; "
                "give that model, or search this one"
            )

    def kept_units(self, sub_blocks: Sequence[SubBlock]) -> list[NDArray[np.int_]]:
        """Give the kept units of each sub-block, ascending.

        Raises:
            PlanError: Where the plan's sites are not the model's, or it keeps no attention.
        """
        widths = {block.name: block.unit_count for block in sub_blocks}
        named = {name: kept.unit_count for name, kept in self.sites.items()}
        if named != widths:
            odd = sorted(dict(named.items() ^ widths.items()))[0]
            raise PlanError(
                f"a plan must name each sub-block of its model with its width, and `{odd}` is "
                "missing, unknown or of another width; export the plan again from its run"
            )
        kept = [self.sites[block.name].units for block in sub_blocks]
        heads = [units for units, b in zip(kept, sub_blocks, strict=True) if b.kind == "attention"]
        if not any(len(units) for units in heads):
            raise PlanError(
                "a plan must keep some attention, and this one drops all; keep one KV group"
            )
        return kept
