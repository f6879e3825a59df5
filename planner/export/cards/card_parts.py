"""What the cards of all that we write have in common: their head, how to load it, whence it is."""

from collections.abc import Sequence
from pathlib import Path

from planner.export.cards.markdown import code, front_matter
from planner.export.cards.origin import Origin, is_hub_name

OWN_TEXT = "sampled from the model"
"""How the name of a text begins that the dense model wrote."""


def head(origin: Origin, tags: Sequence[str], library: str = "transformers") -> str:
    """Return the metadata at the head of a card.

    Args:
        origin: Of the dense model.
        tags: What was made of it.
        library: That loads it, as the hub calls it.
    """
    fields = {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "license": _one_or_more(origin.licence),
        "license_name": origin.licence_name,
        "license_link": origin.licence_link,
        "language": list(origin.languages),
        "base_model": _one_or_more(origin.base_model),
        "tags": list(dict.fromkeys([*tags, "compression-planner", *origin.tags])),
    }
    return f"{front_matter(fields)}\n"


def origin_text(origin: Origin) -> str:
    """Return sentences on the licence and the base of the dense model."""
    licences = [name for name in (*origin.licence, origin.licence_name) if name]
    said = f"Licence of the dense model: {_listed(licences)}" if licences else ""
    if not said:
        said = "The card of the dense model names no licence"
    papers = f"; see {_listed(origin.papers)}" if origin.papers else ""
    base = f" Base model: {_listed(origin.base_model)}." if origin.base_model else ""
    return f"{said}{papers}.{base}"


def named_text(source: str) -> str:
    """Return what a card calls a calibration text: no path of this machine, but its last part."""
    if source.startswith(OWN_TEXT):
        return "text that the dense model wrote itself"
    return code(source if is_hub_name(source) else Path(source).name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(code, names))


def _one_or_more(values: Sequence[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
