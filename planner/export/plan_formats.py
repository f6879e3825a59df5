"""The number formats of a plan, and what a card says of them as a target writes them."""

from collections import Counter

from planner.export.lost_formats import lost_formats
from planner.preparation.dense_model import DenseModel
from planner.settings.search import SearchSettings
from planner.targets.target import Target
from planner.targets.target_names import TargetChoice
from search_spaces.errors import TargetError
from search_spaces.space.number_format import SOURCE
from search_spaces.space.plan import Plan

_STORED_ZEROS = (
    "Weights that were made sparse are stored as zeros in dense tensors, which load everywhere "
    "and compress in an archive; they make no dense kernel faster."
)
_DEQUANTIZED = (
    "The matrices of {count} of {count_of_all} components hold numbers of {name}, which are "
    "stored here dequantised, in plain tensors{rounded}: costs in bytes count them as {name} but "
    "where they are said to be as written, and `plan.json` says which they are."
)
_AS_THEY_CAME = (
    "The matrices of {count} of {count_of_all} components are as they came in a quantised file, "
    "whose bytes they have where they are whole and were not fitted anew; quality is counted "
    "against what that file stands for."
)
_FULL_CACHE = (
    "It was scored with keys and values in {cache}, and keeps them in full where it is loaded so."
)


def check_one_type(plan: Plan, choice: TargetChoice) -> None:
    """Refuse one type for all matrices of a file where a plan chose one for each.

    Raises:
        TargetError: If there is such; float32 holds what any of them stands for.
    """
    file_type = choice.options.get("file_type", "F32")
    chosen = {name: kept.format for name, kept in plan.sites.items() if kept.kept and kept.format}
    if file_type != "F32" and chosen:
        name, number_format = next(iter(chosen.items()))
        raise TargetError(
            f"`--gguf_type` gives all matrices one type, {file_type}, and this plan chose one for "
            f"each, such as {number_format} for `{name}`; leave it out, or export another plan"
        )


def cache_format_of(plan: Plan) -> str:
    """Return the number format of a plan's keys and values; empty: the runtime's usual one."""
    return next((kept.cache for kept in plan.sites.values() if kept.kept and kept.cache), "")


def with_full_cache(plan: Plan) -> Plan:
    """Return a plan whose keys and values are in the runtime's usual number format."""
    sites = {name: kept.model_copy(update={"cache": ""}) for name, kept in plan.sites.items()}
    return plan.model_copy(update={"sites": sites})


def rounding_of(plan: Plan, settings: SearchSettings) -> str:
    """Return the quantiser that made a plan's matrices of the dense ones; empty: not it alone did.

    Some may be as they came in a file, or were made sparse or fitted before they were rounded.

    Args:
        plan: The plan.
        settings: Of its run.
    """
    kept = [each for each in plan.sites.values() if each.kept]
    formats = {each.format for each in kept} - {""}
    is_fitted = any(each.pattern or each.stand_in for each in kept)
    return "" if not formats or is_fitted or SOURCE.name in formats else settings.quantizer


def plan_notes(plan: Plan, target: Target, dense: DenseModel) -> list[str]:
    """Return what a reader should know of how the weights of an export are stored, in sentences.

    Args:
        plan: That was exported.
        target: That wrote it.
        dense: The dense model.
    """
    sites = plan.sites
    notes = [_STORED_ZEROS] if any(kept.pattern for kept in sites.values()) else []
    dtype = str(dense.loaded.stored_dtype).removeprefix("torch.")
    # steps times scale, which 16 bits do not hold exactly
    rounded = "" if dtype == "float32" else f", rounded to {dtype}"
    lost = Counter(sites[each.name].format for each in lost_formats(plan, target, dense.structure))
    formats = Counter(kept.format for kept in sites.values() if kept.kept)
    came, total = (formats - lost)[SOURCE.name], len(sites)
    notes += [
        _DEQUANTIZED.format(count=count, count_of_all=total, name=name, rounded=rounded)
        for name, count in sorted(lost.items())
    ]
    if came:
        notes.append(_AS_THEY_CAME.format(count=came, count_of_all=total))
    if (cache := cache_format_of(plan)) and target.name != "gguf":
        notes.append(_FULL_CACHE.format(cache=cache))
    return notes
