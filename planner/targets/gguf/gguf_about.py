"""What a GGUF file says of where it is from."""

from pathlib import Path

from gguf import Metadata
from yaml import YAMLError

from search_spaces.models.gguf import cache_folder
from search_spaces.models.loading import LoadedModel

_CARD_FIELDS = {
    "license": "license",
    "license.name": "license_name",
    "license.link": "license_link",
    "base_model.0.name": "base_model",
}
"""Of the source's card, by keys of ``general``."""
_HUB = "https://huggingface.co/"


def about(dense: LoadedModel, source: Path | None, plan_id: str) -> dict[str, str]:
    """Return what the file says of itself, by keys of ``general``.

    Args:
        dense: The model that it was cut from.
        source: The files of that model, with its card; None: they are not at hand.
        plan_id: Of the plan.
    """
    unpacked = cache_folder() in Path(dense.source).parents  # from a file whose name is lost
    name = dense.identity.architecture if unpacked else Path(dense.source).name
    said = {
        "type": "model",
        "name": f"{name}, pruned",
        "description": f"plan {plan_id} of {name}, cut by compression-planner",
    }
    try:
        card = Metadata.load_model_card(source)
    except (OSError, ValueError, YAMLError):  # no card that anyone could read
        card = {}
    if not Path(dense.source).exists():  # but on the hub
        card = {**card, "base_model": dense.source}
    for key, field in _CARD_FIELDS.items():
        value = card.get(field)
        first = next(iter(value), None) if isinstance(value, list) else value
        if isinstance(first, str):
            said[key] = first
    base = said.get("base_model.0.name", "")
    return {**said, "base_model.0.repo_url": f"{_HUB}{base}"} if base.count("/") == 1 else said
