"""What settings of a search make of a model: its number formats, options and search space."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.settings.search import SearchSettings
from planner.targets.loads_in import stored_in
from search_spaces.errors import SettingsError
from search_spaces.models.identity import ModelIdentity
from search_spaces.models.loading import LoadedModel
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.build import build_space, lay_out_options, unit_levels
from search_spaces.space.formats.component_formats import Sources, component_formats
from search_spaces.space.formats.format_ladder import FormatLadder
from search_spaces.space.holds import Holds
from search_spaces.space.levels import channel_levels
from search_spaces.space.number_format import SOURCE, NumberFormat, file_format
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace
from search_spaces.structure.as_stored import as_stored
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)


def options_of_settings(
    structure: ModelStructure, settings: SearchSettings, holds: Holds
) -> tuple[tuple[BlockOptions, ...], ...]:
    """Return the options that each component of a model chooses among, the dense ones first."""
    return lay_out_options(
        structure.components,
        settings.space,
        settings.patterns,
        settings.mlp_step,
        holds,
    )


def space_of_settings(
    identity: ModelIdentity,
    structure: ModelStructure,
    settings: SearchSettings,
    orders: Orders | Sequence[NDArray[np.int_]],
    *,
    holds: Holds,
    weights_digest: str = "",
) -> SearchSpace:
    """Return the search space of a model.

    Args:
        identity: Of the model.
        structure: Of the model.
        settings: Of the search.
        orders: For each component its members by falling importance.
        holds: What can be held of the model where plans must load.
        weights_digest: As `build_space` takes it.
    """
    return build_space(
        identity,
        structure.components,
        orders,
        choices=settings.space,
        mlp_step=settings.mlp_step,
        patterns=settings.patterns,
        weights_digest=weights_digest,
        holds=holds,
    )


def with_formats(
    holds: Holds, loaded: LoadedModel, structure: ModelStructure, settings: SearchSettings
) -> Holds:
    """Return what can be held of a model, with the formats that each component chooses among.

    Args:
        holds: Of the model, where plans must load.
        loaded: The model.
        structure: Of the model, with its ends where the space has formats.
        settings: Of the search.

    Raises:
        SettingsError: If formats are asked for that cannot be stored there, or no matrix holds.
    """
    if settings.space.cache and len(holds.caches) < 2:
        raise SettingsError(
            "`space` cache needs heads whose features are a multiple of 32 for fewer bits, and "
            "this model's are not; leave it out"
            if holds.caches
            else "`space` cache needs a runtime that keeps keys and values in fewer bits, and "
            f"{settings.loads_in} has none; set `--loads_in llama.cpp`, or leave it out"
        )
    if not settings.space.formats:
        return holds
    sources = sources_of(loaded)
    ladder = _ladder(holds, settings, sources)
    on_disk = as_stored(structure, stored_in(settings.loads_in, structure, loaded.stored))
    for number_format in settings.formats.formats if settings.formats else ():
        _check_held(on_disk, number_format, sources)
    formats = component_formats(on_disk, ladder, sources, holds.fuses)
    offering = replace(holds, formats=formats)
    for notice in (*_sources_notice(sources), *_widths_notice(structure, settings, offering)):
        logger.info(notice)
    return offering


def sources_of(loaded: LoadedModel) -> Sources:
    """Return the number formats in which a model's matrices came from a quantised file."""
    if loaded.gguf is None:
        return {}
    return {name: file_format(kind) for name, kind in loaded.gguf.types.items()}


def _ladder(holds: Holds, settings: SearchSettings, sources: Sources) -> tuple[NumberFormat, ...]:
    """Return the formats to choose from.

    Raises:
        SettingsError: If one cannot be stored where plans must load, or none can.
    """
    if not holds.stores:
        raise SettingsError(
            f"`space` formats needs a place that stores some, and {settings.loads_in} stores "
            "none; set `--loads_in llama.cpp` or vllm, or leave it out"
        )
    stored = ", ".join(each.name for each in holds.stores)
    if settings.formats is None:
        kept = (SOURCE,) if sources and SOURCE in holds.stores else ()
        usual = (*kept, *FormatLadder.of(holds.stores).formats)
        return tuple(each for each in usual if each.keeps_zeros or not settings.space.sparse)
    for number_format in settings.formats.formats:
        if settings.space.sparse and not number_format.keeps_zeros:
            raise SettingsError(
                f"`formats` of sparse weights must keep zeros, and {number_format} does not; "
                "leave it out, or take sparsity out of `--space`"
            )
        if number_format not in holds.stores:
            raise SettingsError(
                f"`formats` must name what {settings.loads_in} stores, {stored}, got "
                f"{number_format}; leave it out, or set another `--loads_in`"
            )
        if number_format == SOURCE and not sources:
            raise SettingsError(
                "`formats` source needs a model from a quantised GGUF file, got "
                f"{settings.model[-60:]!r}; leave it out"
            )
    return settings.formats.formats


def _check_held(structure: ModelStructure, number_format: NumberFormat, sources: Sources) -> None:
    """Refuse a format that no matrix of a model is smaller in.

    Raises:
        SettingsError: If none is.
    """
    alone = component_formats(structure, (number_format,), sources)
    if any(each.formats for each in alone.values()):
        return
    raise SettingsError(
        f"`formats` must make some matrix smaller, and {number_format} makes none: it needs rows "
        f"of a multiple of {number_format.block} inputs, and fewer bits than the model is stored "
        "in; leave it out"
    )


def _sources_notice(sources: Sources) -> Iterator[str]:
    if sources:
        names = ", ".join(sorted({each.name for each in sources.values()}))
        yield (
            f"the model comes from a file whose matrices are in {names}: quality is counted "
            "against what they stand for"
        )


def _widths_notice(
    structure: ModelStructure, settings: SearchSettings, offering: Holds
) -> Iterator[str]:
    """Yield which widths are no levels, for they would break blocks."""
    everything = replace(offering, formats={})
    lost: dict[str, tuple[int, int, str]] = {}
    for component in structure.components:
        both = (
            unit_levels(component, settings.space, settings.mlp_step, holds)
            for holds in (everything, offering)
        )
        before, after = (len(levels) for levels in both)
        formats = offering.formats_of(component)
        if after < before:
            lost.setdefault(component.kind, (before, after, f"{formats.unit_step} units"))
        if not settings.space.channels:
            continue
        inner = channel_levels(component, settings.mlp_step)
        held = [count for count in inner if formats.holds_channels(component, count)]
        if len(held) < len(inner):
            of_inner = len(inner), len(held), f"{formats.channel_step} channels"
            lost.setdefault("expert", of_inner)
    for kind, (before, after, step) in lost.items():
        yield (
            f"of {before} widths of each {kind}, number formats hold {after} in whole blocks, "
            f"multiples of {step}, and the others are left out; `--formats` chooses"
        )
