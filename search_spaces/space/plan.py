"""The plan: what is kept of each component of one model, as portable JSON."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    field_validator,
    model_validator,
)

from search_spaces.errors import InputError, PlanError, quoted
from search_spaces.models.identity import ModelIdentity, difference
from search_spaces.paths import existing_path
from search_spaces.space.block_options import ExpertPruning
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.number_format import NumberFormat, parse_cache_format
from search_spaces.space.sparsity import SparsityPattern

if TYPE_CHECKING:  # its module loads torch, which reading a plan can do without
    from collections.abc import Sequence

    from search_spaces.structure.components import Component


class Plan(BaseModel):
    """What is kept of each component of one model: a genome in portable form."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[7] = 7
    model: ModelIdentity
    sites: dict[str, ComponentPlan]
    """By component name such as ``layers.3.mlp``; ``embedding`` and ``head`` where they have
    number formats to choose from."""
    weights_digest: str = ""
    """Hash of how weights were made that are no slices of the dense ones, and from which text;
    empty: all are slices."""

    @property
    def plan_id(self) -> str:
        """Ten hexadecimal digits that identify what is kept, whatever the file's layout."""
        content: dict[str, str | list[str]] = {
            name: component_plan.content for name, component_plan in sorted(self.sites.items())
        }
        text = json.dumps([self.model.fingerprint, content, *filter(None, [self.weights_digest])])
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @field_validator("model", mode="after")
    @classmethod
    def _leave_out_source(cls, model: ModelIdentity) -> ModelIdentity:
        """Keep of a run's identity what a plan holds, so that it is equal once it is read."""
        fields = {name: getattr(model, name) for name in ModelIdentity.model_fields}
        return model if type(model) is ModelIdentity else ModelIdentity(**fields)

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for component_plan in self.sites.values():
            if component_plan.pattern:
                SparsityPattern.parse(component_plan.pattern)
            if component_plan.format:
                NumberFormat.parse(component_plan.format)
            if component_plan.cache:
                parse_cache_format(component_plan.cache)
            if component_plan.rewrites and not self.weights_digest:
                raise PlanError(
                    "a plan with weights of its own must say how they were made, and "
                    "`weights_digest` is empty; export the plan again from its run"
                )
        return self

    def to_json(self) -> str:
        """Return the text of the plan file."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan file.

        Raises:
            PlanError: If the file is missing or is no plan of a known version.
        """
        try:
            return cls.model_validate_json(existing_path(str(path)).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise PlanError(
                f"a plan must be a readable JSON file, and {quoted(str(path))} is not: {reason}; "
                "check the path"
            ) from error
        except ValidationError as error:
            raise _malformed(path, error) from error

    def check_model(self, identity: ModelIdentity) -> None:
        """Refuse a model that the plan was not made for.

        Raises:
            PlanError: If its weights or its config are not those that the plan was made for.
        """
        if change := difference(self.model, identity, "the plan was made"):
            raise PlanError(
                f"a plan fits only the model it was made for, and {change}; give that model as it "
                "was, or search this one"
            )

    def kept_units(self, components: "Sequence[Component]") -> list[NDArray[np.int_]]:
        """Return the kept units of each component, ascending.

        Raises:
            PlanError: If the plan's sites are not the model's, or it keeps no attention.
        """
        widths = {component.name: component.member_count for component in components}
        plan_widths = {name: planned.unit_count for name, planned in self.sites.items()}
        if plan_widths != widths:
            odd = sorted(dict(plan_widths.items() ^ widths.items()))[0]
            raise PlanError(
                f"a plan must name each component of its model with its width, and `{odd}` is "
                "missing, unknown or of another width; export the plan again from its run"
            )
        kept_units = [self.sites[component.name].units for component in components]
        for component, units in zip(components, kept_units, strict=True):
            _check_experts(component, units, self.sites[component.name])
        needed = needed_components(components)
        if needed and not any(len(kept_units[position]) for position in needed):
            raise PlanError(
                "a plan must keep some attention, and this one drops all; keep one KV group"
            )
        return kept_units

    def expert_pruning(self, component: "Component") -> ExpertPruning:
        """Return the pruning inside the experts that the plan keeps of a component.

        Raises:
            PlanError: If it does not keep as many channels of each.
        """
        component_plan = self.sites[component.name]
        channels = component_plan.kept_channels(component.channel_count)
        return ExpertPruning(channels=channels, top_k=component_plan.top_k)


def needed_components(components: "Sequence[Component]") -> tuple[int, ...]:
    """Return the positions of those of which some must be kept; empty: none need be.

    They are attentions, without which no token sees another.
    """
    return tuple(i for i, component in enumerate(components) if component.mixes_tokens)


def _malformed(path: Path, error: ValidationError) -> PlanError:
    """Return the sentence for the first field of a plan file that is wrong."""
    errors = error.errors()
    # fields of another version say nothing more
    first = next((each for each in errors if each["loc"] == ("version",)), errors[0])
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):  # a rule of our own
        return PlanError(str(cause))
    if first["loc"] == ("version",) and isinstance(first["input"], int):
        fault = f"it is of version {first['input']!s:.20}"
    else:
        faults = {"missing": "is missing", "extra_forbidden": "is unknown"}
        fault, place = faults.get(first["type"], "is of another kind"), map(str, first["loc"])
        fault = (
            f"{quoted('.'.join(place), 60)} {fault}" if first["loc"] else "it is no JSON object"
        )
    return PlanError(
        f"{quoted(str(path))} must be a plan of version 7, and {fault}; export the plan again "
        "from its run"
    )


def _check_experts(
    component: "Component", members: NDArray[np.int_], component_plan: ComponentPlan
) -> None:
    """Refuse experts that the router could not choose from.

    Raises:
        PlanError: If there are fewer than run for a token, or groups keep different numbers.
    """
    if not component.top_k:
        if component_plan.channels or component_plan.top_k:
            raise PlanError(
                f"only a mixture of experts has channels of each and a number that run, and "
                f"`{component.name}` has none; export the plan again from its run"
            )
        return
    if not len(members):
        return
    top_k, least = component_plan.top_k or component.top_k, component.least_top_k
    if not least <= top_k <= component.top_k:
        raise PlanError(
            f"`{component.name}` must run from 1 to {component.top_k} experts for a token"
            f"{'' if least < component.top_k else ', and its code fixes that number'}, got "
            f"{top_k}; lower `top_k` in the plan, or leave it out"
        )
    if len(members) < top_k:
        raise PlanError(
            f"`{component.name}` must keep at least as many experts as run for a token, {top_k}, "
            f"got {len(members)}; keep more, or lower `top_k` with them"
        )
    by_group = np.bincount(members // component.unit_count, minlength=component.group_count)
    if len(set(by_group.tolist())) > 1:
        raise PlanError(
            f"`{component.name}` must keep as many experts of each of its "
            f"{component.group_count} groups, got {', '.join(map(str, by_group))}; keep as many "
            "of each"
        )
    # a router that compares groups reads several experts of each, however few it then chooses
    if component.group_count > 1 and len(members) < component.lowest * component.group_count:
        raise PlanError(
            f"the router of `{component.name}` needs at least {component.lowest} experts of each "
            f"of its {component.group_count} groups, got {by_group[0]}; keep more of each"
        )
