"""Where a model is to be loaded, as ``--loads_in`` names it, and what that holds of a model."""

from dataclasses import replace
from typing import assert_never

from transformers import PreTrainedTokenizerBase

from planner.settings.search import LoadsIn
from planner.targets.hf.native import native_holds, packed_holds, vllm_holds
from planner.targets.target_names import TargetChoice
from search_spaces.models.stored import StoredFormat
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.structure.model import ModelStructure


def holds_in(
    loads_in: LoadsIn,
    structure: ModelStructure,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Holds:
    """Return what can be held of a model where it is to be loaded.

    What each place holds is said by its target, which refuses plans by the same.

    Args:
        loads_in: The place.
        structure: Of the model.
        tokenizer: That is to be loaded with it; None: only the model is asked about.
    """
    match loads_in:
        case "any":
            return HOLDS_ALL
        case "transformers":
            return packed_holds(structure)
        case "transformers-native":
            return native_holds(structure)
        case "vllm":
            return vllm_holds(structure)
        case "llama.cpp":
            return TargetChoice(name="gguf").make().holds(structure, tokenizer)
        case "onnx":
            holds = TargetChoice(name="onnx").make().holds(structure)
            return replace(holds, stores=(), caches=())
        case _:
            assert_never(loads_in)


def stored_in(loads_in: LoadsIn, structure: ModelStructure, stored: StoredFormat) -> StoredFormat:
    """Return the formats of the weights for which a plan chooses none, where it is to be loaded.

    Args:
        loads_in: The place.
        structure: Of the model.
        stored: The formats that the model has on disk.
    """
    if loads_in != "llama.cpp":
        return stored
    target = TargetChoice(name="gguf").make()
    return stored if target.holds(structure).refuses_model else target.stored(structure, stored)
