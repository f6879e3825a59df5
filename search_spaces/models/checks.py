"""Checks of a checkpoint before it is used."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.errors import ModelError, StructureError


def refusal(name: str, error: BaseException) -> ModelError:
    """Turn an error of transformers into one that names what the user can do."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"a model that brings Python code of its own must be trusted, and `{name}` is not; "
            "read its code, then allow it with `--trust_remote_code`"
        )
    if "scaled_dot_product_attention" in str(error):
        return StructureError(
            "a model must be able to run its attention through torch's "
            f"scaled_dot_product_attention, and `{name}` cannot: {first_line(error)}; "
            "this architecture cannot be read"
        )
    return ModelError(
        f"`{name}` must be a complete HuggingFace folder with safetensors weights, and it "
        f"cannot be loaded: {first_line(error)}; check the folder or download it again"
    )


def check_architecture(
    name: str, architectures: list[str] | None, model_type: str, *, trusted: bool
) -> None:
    """Refuse a model that is no causal language model, or is an export of the planner.

    Raises:
        ModelError: If it is such a model.
    """
    if model_type.startswith("pruned_"):
        raise ModelError(
            f"a model must be dense, and `{name}` is an export of the planner already; "
            "search the model that it was pruned from"
        )
    causal_class = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    named = set(architectures or [])
    is_named_causal = any("CausalLM" in name or "LMHead" in name for name in named)
    fits = not named or causal_class in named or is_named_causal
    if not fits or (causal_class is None and not trusted):
        raise ModelError(
            f"a model must be a causal language model, and `{name}` is "
            f"{', '.join(sorted(named)) or f'of type {model_type}'}; "
            "give a model that AutoModelForCausalLM loads"
        )


def check_complete(name: str, info: Mapping[str, object]) -> None:
    """Refuse a checkpoint that lacks weights of its model.

    Raises:
        ModelError: If weights are missing or of another shape.
    """
    missing = info.get("missing_keys") or info.get("mismatched_keys")
    if missing:
        assert isinstance(missing, set | list)
        raise ModelError(
            f"a checkpoint must hold every weight of its model, and `{name}` lacks or misshapes "
            f"{len(missing)}, such as `{sorted(map(str, missing))[0]}`; download it again"
        )


def finite(name: str, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield weights with their names, and refuse those that are not finite.

    Raises:
        ModelError: If one holds NaN or infinity.
    """
    for path, weight in weights:
        # in pieces, for `isfinite` makes a copy, and stacks of experts are large
        pieces = torch.split(weight.reshape(-1), 2**22)
        if not all(bool(torch.isfinite(piece).all()) for piece in pieces):
            raise ModelError(
                f"weights must be finite, and `{path}` of `{name}` holds NaN or infinity; "
                "the checkpoint is damaged, get a sound copy"
            )
        yield path, weight


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, 200 characters at most."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
