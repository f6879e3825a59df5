"""Checks of a model's parts before they are used, and the sentences for what is wrong."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.errors import ModelError, StructureError, quoted
from search_spaces.models.memory import is_out_of_memory

logger = logging.getLogger(__name__)


def untrusted(source: str, part: str = "model") -> ModelError:
    """Return the sentence for a part of a model that brings code which nobody allowed."""
    return ModelError(
        f"a {part} that brings Python code of its own must be trusted, and that of "
        f"{quoted(source)} is not; read its code, then allow it with `--trust_remote_code`"
    )


def unknown_family(source: str, model_type: str) -> ModelError:
    """Return the sentence for a family that is newer than transformers, or none."""
    return ModelError(
        f"a model must be of a family that transformers holds, and {quoted(source)} is of "
        f"{quoted(model_type, 40)}, which this version of transformers does not hold; update "
        "transformers, or give another model"
    )


def absent_source(source: str, error: BaseException | None = None) -> ModelError:
    """Return the sentence for a name that is no folder, and that the hub gives no config for."""
    kinds = set()
    while error is not None:
        kinds.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    if "GatedRepoError" in kinds:
        return ModelError(
            f"a model must be one that you may read, and {quoted(source)} asks for its terms to "
            "be accepted; accept them on its page, then log in with `hf auth login`"
        )
    reason = (
        "the hub's names are of another form"
        if "HFValidationError" in kinds
        else "the hub has no such model, or cannot be reached"
    )
    return ModelError(
        f"a model must be a folder or known to the Hugging Face hub, and {quoted(source)} is no "
        f"folder here and {reason}; check the name"
    )


def loading_failure(
    source: str, error: BaseException, config: PreTrainedConfig | None = None
) -> ModelError:
    """Return the sentence for what transformers cannot load, without its words."""
    if is_out_of_memory(error):
        return ModelError(
            f"a model must fit into memory, and {quoted(source)} does not; take `--offload "
            "always`, a machine with more memory or a smaller model"
        )
    if "scaled_dot_product_attention" in str(error):
        return StructureError(
            "a model must be able to run its attention through torch's "
            f"scaled_dot_product_attention, and {quoted(source)} cannot; this architecture "
            "cannot be read"
        )
    quantisation = getattr(config, "quantization_config", None)
    if quantisation:
        method = dict(quantisation).get("quant_method", "bitsandbytes")
        package = re.search(r"pip install (?:-\S+ )*[\"'`]?([\w.-]+)", str(error))
        # a method's name need not be that of its library
        library = f"`{package[1]}`" if package else "what its method needs"
        return ModelError(
            f"a quantised model needs the library of its method, and {quoted(str(method))} of "
            f"{quoted(source)} cannot be read here; give the model as it was before "
            f"quantisation, or install {library}"
        )
    return ModelError(
        f"the files of a model must fit together, and {quoted(source)} cannot be loaded; get it "
        "again, or see why with `--debug`"
    )


def check_architecture(name: str, config: PreTrainedConfig, *, trusted: bool) -> None:
    """Refuse a model that is no causal language model.

    Raises:
        ModelError: If it is none.
    """
    architectures, model_type = config.architectures, config.model_type
    causal_class = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    named = set(architectures or [])
    is_named_causal = any("CausalLM" in name or "LMHead" in name for name in named)
    fits = not named or causal_class in named or is_named_causal
    fits = fits and (causal_class is not None or trusted)
    names = sorted(named) or [causal_class or model_type]
    if not fits or any(each.endswith("ForConditionalGeneration") for each in names):
        _refuse_wrapper(name, config, names[0])
    if not fits:
        raise ModelError(
            f"a model must be a causal language model, and {quoted(name)} is "
            f"{quoted(', '.join(sorted(named))) if named else f'of type {quoted(model_type)}'}; "
            "give a model that AutoModelForCausalLM loads"
        )


def _refuse_wrapper(name: str, config: PreTrainedConfig, kind: str) -> None:
    """Say how to get at the text model in a model of pictures or sound and text.

    Raises:
        ModelError: If it has one.
    """
    text = getattr(config, "text_config", None)
    if isinstance(text, PreTrainedConfig):
        text_class = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(text.model_type)
        remedy = (
            f"save its text model as one of its own: a {text_class} of its `text_config`, with "
            "the weights of `language_model` and `lm_head`"
        )
        if text_class is None:
            remedy = "its text model has no class of its own in transformers: give another model"
        raise ModelError(
            f"a model must be of text alone, and {quoted(name)} is {quoted(kind)}; {remedy}"
        )


def check_complete(name: str, info: Mapping[str, object], empty: PreTrainedModel) -> None:
    """Refuse a checkpoint that lacks weights of its model.

    Args:
        name: The user's name of the model.
        info: What transformers says of the keys.
        empty: The model without weights.

    Raises:
        ModelError: If weights are missing or of another shape.
    """
    for entry in sorted(_entries(info, "mismatched_keys"), key=str):
        path, stored, *_ = entry if isinstance(entry, tuple) else (entry, None)
        expected = empty.get_parameter_or_buffer(str(path)).shape
        raise misshapen(name, str(path), stored, expected)
    missing = sorted(map(str, _entries(info, "missing_keys")))
    if missing:
        raise ModelError(
            f"a checkpoint must hold every weight of its model, and {quoted(name)} lacks "
            f"{len(missing)}, such as {quoted(missing[0])}; get the whole checkpoint, or the "
            "config.json that belongs to it"
        )


def _entries(info: Mapping[str, object], kind: str) -> list[object]:
    entries = info.get(kind) or []
    assert isinstance(entries, set | list | tuple | dict)
    return list(entries)


def misshapen(name: str, path: str, stored: object, expected: object) -> ModelError:
    """Return the sentence for a weight of another shape."""
    return ModelError(
        f"a checkpoint's weights must be of the shapes that config.json gives, and "
        f"{quoted(path)} of {quoted(name, 40)} is {_shape(stored)} in place of "
        f"{_shape(expected)}; get the config.json and the weights that belong together"
    )


def _shape(shape: object) -> str:
    return " × ".join(map(str, shape)) if isinstance(shape, tuple | list) else "another"


def say_unused(info: Mapping[str, object]) -> None:
    """Log which tensors a checkpoint holds and its model does not use."""
    unused = sorted(map(str, _entries(info, "unexpected_keys")))
    if unused:
        logger.info(
            "the checkpoint holds %d tensors that config.json has no place for, such as %s: they "
            "are left out",
            len(unused),
            quoted(unused[0]),
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
                f"weights must be finite, and {quoted(path)} of {quoted(name)} holds NaN or "
                "infinity; get a sound copy"
            )
        yield path, weight
